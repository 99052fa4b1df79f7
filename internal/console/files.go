package console

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
)

//go:embed assets/*.js assets/*.css assets/*.svg
var assets embed.FS

//go:embed templates/*.html
var templates embed.FS

// pages are the templates of the pages by name, each with the layout.
var pages = parse()

// sums are the entity tags of the assets.
var sums = tags()

func parse() map[string]*template.Template {
	layout := template.Must(template.New("").Funcs(functions).ParseFS(templates, "templates/layout.html", "templates/parts.html"))
	all := map[string]*template.Template{}
	files, err := fs.Glob(templates, "templates/*.html")
	if err != nil {
		panic(err) // the pattern is ours
	}
	for _, file := range files {
		if name := file[len("templates/"):]; name != "layout.html" && name != "parts.html" {
			all[name] = template.Must(template.Must(layout.Clone()).ParseFS(templates, file))
		}
	}
	return all
}

func tags() map[string]string {
	all := map[string]string{}
	entries, err := fs.ReadDir(assets, "assets")
	if err != nil {
		panic(err) // they are embedded
	}
	for _, e := range entries {
		b, err := fs.ReadFile(assets, "assets/"+e.Name())
		if err != nil {
			panic(err)
		}
		all[e.Name()] = fmt.Sprintf(`"%x"`, sha256.Sum256(b))
	}
	return all
}
