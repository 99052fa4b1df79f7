//go:build !unix

package embedded

import (
	"fmt"
	"runtime"
)

// lockFile refuses: without a lock two servers would corrupt one file.
func lockFile(path string) (unlock func(), err error) {
	return nil, fmt.Errorf("lock %s: not supported on %s: keep the data in memory (--in-memory)", path, runtime.GOOS)
}
