package sitetest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Figures prints a benchmark's samples as minimum, median and maximum, with the machine's load beside.
func Figures(b *testing.B, what string, samples []time.Duration) {
	b.Helper()
	slices.Sort(samples)
	load, _ := os.ReadFile("/proc/loadavg")
	median := samples[len(samples)/2]
	fmt.Fprintf(b.Output(), "%s: min %s, median %s, max %s of %d; load %s\n", what,
		samples[0].Round(time.Millisecond/10), median.Round(time.Millisecond/10), samples[len(samples)-1].Round(time.Millisecond/10),
		len(samples), strings.TrimSpace(string(load)))
	b.ReportMetric(float64(median.Microseconds())/1000, "ms-median")
	b.ReportMetric(0, "ns/op")
}

// id is what no label may have.
var id = regexp.MustCompile(`domain-c\d|vm-\d|host-\d|HostSystem|round-|[0-9a-f]{8}-[0-9a-f]{4}-`)

// Scrape reads /metrics and adds each metric up over its labels; of a histogram it takes the count.
func Scrape(t *testing.T, addr string) map[string]float64 {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %d %v %s", resp.StatusCode, err, body)
	}
	sums := map[string]float64{}
	for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndex(line, " ")
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			t.Fatalf("/metrics has the line %q", line)
		}
		name, _, _ := strings.Cut(line[:at], "{")
		sums[strings.TrimSuffix(name, "_count")] += value
		if id.MatchString(line) {
			t.Errorf("a label tells an id: %s", line)
		}
	}
	return sums
}

// Seeded returns a source of random instants, whose seed E2E_SEED may give.
func Seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("E2E_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("E2E_SEED=%d repeats the instants", seed)
	return rand.New(rand.NewPCG(seed, 0))
}
