package alarm

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxDepth bounds how deep the elements of an XML event nest; vSphere's own nest three deep.
const maxDepth = 32

// read decodes an event's data by what it plainly is.
func read(m Message) (*payload, error) {
	if len(m.Data) > MaxBytes {
		return nil, fmt.Errorf("data of %d bytes: at most %d are read", len(m.Data), MaxBytes)
	}
	if !utf8.Valid(m.Data) {
		return nil, fmt.Errorf("the data (media type %q) is not UTF-8 text: send the event as JSON or XML in UTF-8", clip(m.MediaType))
	}
	data := trim(m.Data)
	if len(data) > 0 && data[0] == '"' {
		var inner string
		if err := json.Unmarshal(data, &inner); err != nil {
			return nil, explain(err)
		}
		if data = trim([]byte(inner)); len(data) == 0 || data[0] != '{' && data[0] != '<' {
			return nil, errors.New("the data is a JSON string that holds neither a JSON object nor XML: send the event itself")
		}
	}
	switch {
	case len(data) == 0:
		return nil, errors.New("the data is empty: send the event as JSON or XML")
	case data[0] == '{':
		return readJSON(data)
	case data[0] == '<':
		return readXML(data)
	case data[0] == '[':
		return nil, errors.New("the data is a JSON array: send one event, as an object")
	case string(data) == "null":
		return nil, errors.New("the data is null: send the event as JSON or XML")
	}
	return nil, fmt.Errorf("the data (media type %q) begins with %q, which is neither a JSON object nor XML", clip(m.MediaType), first(data))
}

// trim cuts a byte order mark and the white space around.
func trim(data []byte) []byte {
	return bytes.Trim(bytes.TrimPrefix(data, []byte("\uFEFF")), " \t\r\n")
}

func first(data []byte) []byte { return data[:min(len(data), 10)] }

func readJSON(data []byte) (*payload, error) {
	var p payload
	err := json.Unmarshal(data, &p)
	if p.predatesVEBA03() { // asked first, for its source is a string
		return nil, errBeforeVEBA03
	}
	if err != nil {
		return nil, explain(err)
	}
	return &p, nil
}

// explain names the field, or the place, of a JSON error.
func explain(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field, want := "", "an object"
		if e.Field != "" {
			field = "field " + e.Field + " is "
		}
		switch e.Type.Name() {
		case "string":
			want = "a string"
		}
		return fmt.Errorf("%sa JSON %s: want %s", field, clip(e.Value), want)
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("bad JSON at byte %d: %w", e.Offset, err)
	}
	return err
}

// readXML decodes vim25 XML of an event, whatever its root is called: fields are children of the root in any
// namespace. It expands no entity but XML's own five and refuses a document type and deep nesting.
func readXML(data []byte) (*payload, error) {
	in := xml.NewDecoder(bytes.NewReader(data))
	in.CharsetReader = func(charset string, _ io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("encoding %q is not read: send UTF-8", clip(charset))
	}
	d := xml.NewTokenDecoder(&guard{in: in})
	var p payload
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("bad XML: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("bad XML: something follows the root element")
	}
	return &p, nil
}

// guard passes on the tokens of an XML document that nests no deeper than maxDepth and has no document type.
type guard struct {
	in    *xml.Decoder
	depth int
}

// Token implements xml.TokenReader.
func (g *guard) Token() (xml.Token, error) {
	t, err := g.in.Token()
	switch t.(type) {
	case xml.StartElement:
		if g.depth++; g.depth > maxDepth {
			return nil, fmt.Errorf("elements nest deeper than %d", maxDepth)
		}
	case xml.EndElement:
		g.depth--
	case xml.Directive:
		return nil, errors.New("a document type or another directive is refused: send the event without one")
	}
	return t, err
}
