package embedded

import (
	"fmt"
	"os"
	"syscall"
)

// reserve binds a port (0: any free one) without listening on it. On Linux another socket that sets SO_REUSEADDR, as Go's
// listeners do, may then still listen on exactly this port, while the kernel hands it to nobody who asks for any port.
// So there is no gap between finding a port and using it.
func reserve(port int) (reservation, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return reservation{}, os.NewSyscallError("socket", err)
	}
	bound, err := bindLoopback(fd, port)
	if err != nil {
		_ = syscall.Close(fd)
		return reservation{}, err
	}
	return reservation{port: bound, release: func() { _ = syscall.Close(fd) }}, nil
}

func bindLoopback(fd, port int) (int, error) {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	v4, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("bound to an unexpected address %T", name)
	}
	return v4.Port, nil
}
