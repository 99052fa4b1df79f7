package console

import "embed"

//go:embed assets/README.md
var readme embed.FS
