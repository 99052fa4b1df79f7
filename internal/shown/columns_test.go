package shown

import (
	"strings"
	"testing"
)

func TestColumnsAreAlignedAndCellsEscaped(t *testing.T) {
	var b strings.Builder
	err := Columns(&b, [][]string{{"VM", "WHERE"}, {"a\tb\x1b[2J", "https://me:secret@host/x"}, {"web-1", ""}})
	want := "VM              WHERE\n" + `a\x09b\x1b[2J   https://xxxxx@host/x` + "\nweb-1           \n"
	if err != nil || b.String() != want {
		t.Errorf("got %v\n%q\nwant\n%q", err, b.String(), want)
	}
}
