package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/api/serviceerror"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/telemetry"
)

func TestAnErrorOfTemporalNamesItsRemedy(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want []string
	}{
		"a missing namespace":  {serviceerror.NewNamespaceNotFound("ns"), []string{"level=ERROR", "namespace does not exist", "temporal operator namespace create", "TEMPORAL_NAMESPACE"}},
		"an older server's no": {serviceerror.NewNotFound("Namespace ns is not found."), []string{"level=ERROR", "namespace does not exist"}},
		"access denied":        {serviceerror.NewPermissionDenied("no", ""), []string{"level=ERROR", "TEMPORAL_API_KEY"}},
		"a wrong API key":      {fmt.Errorf("failed reaching server: %w", status.Error(codes.Unauthenticated, "no")), []string{"level=ERROR", "TEMPORAL_API_KEY"}},
		"no connection":        {errors.New("connection refused"), []string{"level=WARN", "waiting for Temporal", "connection refused", "TEMPORAL_URL"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			n := nag{log: telemetry.New(&out, telemetry.Text, false)}
			n.tell(tc.err)
			for _, want := range tc.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the log lacks %q: %s", want, out.String())
				}
			}
		})
	}
}

func TestALastingTroubleIsToldNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		n := nag{log: telemetry.New(&out, telemetry.Text, false)}
		lines := func() int { return strings.Count(out.String(), "\n") }
		tell := func(seconds int, err error) {
			for range seconds {
				n.tell(err)
				time.Sleep(time.Second)
			}
		}
		away := errors.New("refused")
		tell(60, away)
		if got := lines(); got != 12 {
			t.Errorf("%d lines in the first minute, want one every 5 seconds", got)
		}
		tell(600, away)
		if got := lines() - 12; got < 18 || got > 21 {
			t.Errorf("%d lines in ten more minutes, want one every 30 seconds", got)
		}
		before := lines()
		n.tell(serviceerror.NewNamespaceNotFound("ns"))
		if lines() != before+1 {
			t.Error("another trouble is not told at once")
		}
		n.over()
		if !strings.Contains(out.String(), "Temporal answers") {
			t.Error("its end is not told")
		}
	})
}

func TestNothingIsToldOfTemporalWhereItAnsweredAtOnce(t *testing.T) {
	var out bytes.Buffer
	n := nag{log: telemetry.New(&out, telemetry.Text, false)}
	n.over()
	if out.Len() > 0 {
		t.Errorf("got %s", out.String())
	}
}

func TestASessionThatDoesNotPollSaysWhy(t *testing.T) {
	s := session{queue: "q"}
	if err := s.ready(t.Context()); err == nil || err.Error() != "not polling task queue q yet" {
		t.Errorf("at the start: %v", err)
	}
	s.lost(errors.New("refused"))
	if err := s.ready(t.Context()); err == nil || err.Error() != "not polling task queue q: refused" {
		t.Errorf("while Temporal is away: %v", err)
	}
	s.close() // nothing to close
}

func TestAssembleRefusesWhatOnlyThePartsKnow(t *testing.T) {
	cfg := config.Worker{File: config.DefaultFile()}
	cfg.VCenter.URL = "ftp://v"
	cfg.File.Limits.ReplyAllow = []string{"a/b"}
	_, err := assemble(cfg, config.Env{}, telemetry.Build{}, nil, slog.New(slog.DiscardHandler))
	if got := config.Problems(err); len(got) != 2 {
		t.Errorf("both problems must be told, got %v", err)
	}
}
