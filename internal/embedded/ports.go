package embedded

import "fmt"

// servicePorts are the ports of the four services of one server.
type servicePorts struct {
	frontend, history, matching, worker reservation
}

// reservation keeps a port from being given to anyone else until the service that is meant to have it listens.
type reservation struct {
	port    int
	release func()
}

// reservePorts picks the frontend's port as asked and any free ports for the others.
func reservePorts(preferred int, required bool) (_ *servicePorts, err error) {
	p := &servicePorts{}
	defer func() {
		if err != nil {
			p.release()
		}
	}()
	if p.frontend, err = reservePreferred(preferred, required); err != nil {
		return nil, err
	}
	for _, r := range []*reservation{&p.history, &p.matching, &p.worker} {
		if *r, err = reserve(0); err != nil {
			return nil, fmt.Errorf("find a free port on %s: %w", loopback, err)
		}
	}
	return p, nil
}

func reservePreferred(port int, required bool) (reservation, error) {
	r, err := reserve(port)
	if err == nil {
		return r, nil
	}
	if required {
		return r, fmt.Errorf("port %d of %s for Temporal: %w: stop its user or choose another port", port, loopback, err)
	}
	if r, err = reserve(0); err != nil {
		return r, fmt.Errorf("find a free port on %s: %w", loopback, err)
	}
	return r, nil
}

func (p *servicePorts) release() {
	for _, r := range []reservation{p.frontend, p.history, p.matching, p.worker} {
		if r.release != nil {
			r.release()
		}
	}
}
