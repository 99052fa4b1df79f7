package sitetest

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
)

// record makes this test binary record histories of real runs into a folder instead of only testing:
// go test ./internal/e2e -run TestLivesWorthReplaying -record=$PWD/internal/preempt/testdata/histories/<date>
var record = flag.String("record", "", "folder to record workflow histories into")

// Keep records the histories of the latest runs of some workflows, if asked to.
func (s *Site) Keep(name string, ids ...string) {
	s.T.Helper()
	for i, id := range ids {
		s.KeepRun(fmt.Sprintf("%s-%d", name, i+1), id, "")
	}
}

// KeepRun records the history of one run of a workflow, if asked to; run is empty for the latest.
func (s *Site) KeepRun(name, id, run string) {
	s.T.Helper()
	if *record == "" {
		return
	}
	var h history.History
	it := s.Temporal.GetWorkflowHistory(context.Background(), id, run, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for it.HasNext() {
		e, err := it.Next()
		if err != nil {
			s.T.Fatal(err)
		}
		h.Events = append(h.Events, e)
	}
	b, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(&h)
	if err == nil {
		err = os.MkdirAll(*record, 0o755)
	}
	path := filepath.Join(*record, name+".json")
	if len(b) > 1<<20 && err == nil {
		path += ".gz"
		b, err = packed(b)
	}
	if err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		s.T.Fatal(err)
	}
}

func packed(b []byte) ([]byte, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}
