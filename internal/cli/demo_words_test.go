package cli_test

import (
	"net"
	"strings"
	"testing"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
)

func TestALoadBelowNothingIsNoLoadAndNoFlag(t *testing.T) {
	preemptctl(t, cli.Options{}, "demo", "load", "-5").want(t, 2, "stderr", `"-5" is no load: give 10 to 100 percent, or auto`)
	preemptctl(t, cli.Options{}, "demo", "load", "-x").want(t, 2, "stderr", "unknown flag: -x; an argument that begins with - is given behind --")
}

// At the port of Temporal, or of a mail server, something answers that is not HTTP.
func TestWhatAnswersWithoutHTTPIsNoDemo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for _, answer := range []string{"\x00\x00\x18\x04\x00\x00\x00\x00\x00", "220 mail.example.com\r\n", ""} {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte(answer))
			_ = c.Close()
		}
	}()
	for range 3 {
		got := preemptctl(t, cli.Options{}, "demo", "status", "--demo", l.Addr().String())
		got.want(t, 1, "stderr", "no demo answers at "+l.Addr().String()+": what answers there is no demo;", "start one in another terminal")
		if strings.Contains(strings.ToLower(got.stderr), "http") {
			t.Errorf("raw words: %s", got.stderr)
		}
	}
}

func TestTheValuesOfTheKnobsAreCompleted(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"demo", "load", "a"}, "auto\tthe simulated day decides again\n"},
		{[]string{"demo", "load", "9"}, "95\tthe alarm turns red\n"},
		{[]string{"demo", "load", "95", "--on", "cl"}, "cluster-a\ncluster-b\n"},
		{[]string{"demo", "alarm", "red", "--on", ""}, "cluster-a\ncluster-b\n"},
		{[]string{"demo", "alarm", "r"}, "red\n"},
	} {
		got := preemptctl(t, cli.Options{}, append([]string{"__complete"}, c.args...)...)
		got.want(t, 0, "stdout")
		if values, _, _ := strings.Cut(got.stdout, ":"); values != c.want {
			t.Errorf("%q completes %q, want %q", c.args, values, c.want)
		}
	}
}
