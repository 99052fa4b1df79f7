package alarm

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestALargeEventIsTrimmedAndReadsAsTheSameAlarm(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.json")
	more, _ := filepath.Glob("../../testdata/*/*.json")
	tried := 0
	for _, file := range append(files, more...) {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		before, err := FromCloudEvent(raw)
		var all map[string]json.RawMessage
		if err != nil || json.Unmarshal(raw, &all) != nil {
			continue
		}
		if string(Trim(raw)) != string(raw) {
			t.Errorf("%s is small and was changed", file)
		}
		all["padding"], _ = json.Marshal(strings.Repeat("<", 100_000))
		large, _ := json.Marshal(all)
		small := Trim(large)
		after, err := FromCloudEvent(small)
		if err != nil || after != before {
			t.Errorf("%s: %v\nbefore %+v\nafter  %+v", file, err, before, after)
		}
		if len(small) > 4096 || !strings.Contains(string(small), TrimmedExtension) {
			t.Errorf("%s: %d bytes: %s", file, len(small), small)
		}
		tried++
	}
	if tried < 2 {
		t.Fatalf("only %d events were tried", tried)
	}
}

func TestWhatIsNoAlarmLosesItsDataAlone(t *testing.T) {
	raw := `{"specversion":"1.0","id":"1","source":"s","type":"t","data":"` + strings.Repeat("x", 50_000) + `"}`
	var got map[string]any
	if err := json.Unmarshal(Trim([]byte(raw)), &got); err != nil {
		t.Fatal(err)
	}
	if got["id"] != "1" || got["type"] != "t" || got["data"] != nil || got[TrimmedExtension] == nil {
		t.Errorf("%v", got)
	}
}
