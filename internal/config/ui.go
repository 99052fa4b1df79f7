package config

// UI says where a worker serves its console, and who may read it.
type UI struct {
	Addr      string // host:port; "": it is not served
	TokenFile string // file with the token that readers must show; "": none
	Header    string // that a reverse proxy sets for those it has let in; "": there is none
}

// ui reads where the console is served.
func (r *reader) ui() UI {
	u := UI{Addr: r.env.Get("UI_ADDR"), TokenFile: r.env.Get("UI_TOKEN_FILE"), Header: r.env.Get("UI_TRUSTED_HEADER")}
	if u.Addr == "" {
		return u
	}
	if err := checkAddress(u.Addr, true); err != nil {
		r.problem("UI_ADDR", "%q %w; set it to host:port, such as 127.0.0.1:8090", u.Addr, err)
	}
	return u
}
