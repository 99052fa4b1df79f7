package shown

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Columns writes rows as a table with aligned columns. Each cell is escaped and loses the secrets of its URLs: names come
// from vCenter, and from whoever may send a request.
func Columns(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = Plain(Redact(cell))
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}
