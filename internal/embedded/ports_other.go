//go:build !linux

package embedded

import "net"

// reserve finds a port (0: any free one) by listening on it for a moment. Where a bound port cannot be shared with the
// service that is to listen on it, a short gap remains in which another program may take it; starting then fails.
func reserve(port int) (reservation, error) {
	l, err := net.Listen("tcp", hostPort(port))
	if err != nil {
		return reservation{}, err
	}
	defer func() { _ = l.Close() }()
	return reservation{port: l.Addr().(*net.TCPAddr).Port}, nil
}
