package alarm

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNotAlarm says that an event is not an AlarmStatusChangedEvent at all.
var ErrNotAlarm = errors.New("not an AlarmStatusChangedEvent")

// envelope is a structured CloudEvent 1.0 in JSON, and of one before CloudEvents, that it had a topic.
type envelope struct {
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Source          string          `json:"source"`
	EventClass      string          `json:"eventclass"`
	Time            json.RawMessage `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`
	DataBase64      string          `json:"data_base64"`
	Topic           json.RawMessage `json:"topic"`
}

// FromCloudEvent decodes a structured CloudEvent in JSON. It returns ErrNotAlarm for an event of another class,
// and a precise error for one that claims to be an alarm event and is not.
func FromCloudEvent(raw []byte) (Alarm, error) {
	m, err := ParseStructured(raw)
	if err != nil {
		return Alarm{}, err
	}
	if Claim(m) != string(ClassAlarm) {
		return Alarm{}, ErrNotAlarm
	}
	e, err := Decode(m)
	if errors.Is(err, ErrOther) {
		return Alarm{}, ErrNotAlarm
	}
	return e.Alarm, err
}

// ParseStructured reads the envelope of a structured CloudEvent in JSON, with its data as it is: a JSON value, text
// in a string where the media type is not JSON, or data_base64. It looks at nothing within the data. Its
// errors name the attribute.
func ParseStructured(raw []byte) (Message, error) {
	if len(raw) > MaxBytes {
		return Message{}, fmt.Errorf("event of %d bytes: at most %d are read", len(raw), MaxBytes)
	}
	var e envelope
	if err := json.Unmarshal(trim(raw), &e); err != nil {
		return Message{}, fmt.Errorf("decode CloudEvent: %w", explain(err))
	}
	if e.Type == "" && e.Subject == "" && len(e.Topic) > 0 {
		return Message{}, errBeforeVEBA03
	}
	at, err := e.at()
	if err != nil {
		return Message{}, fmt.Errorf("decode CloudEvent: %w", err)
	}
	data, err := e.content()
	if err != nil {
		return Message{}, fmt.Errorf("decode CloudEvent: %w", err)
	}
	return Message{
		Type: e.Type, Subject: e.Subject, Source: e.Source, EventClass: e.EventClass, Time: at,
		MediaType: e.DataContentType, Data: data,
	}, nil
}

// at is the time of the envelope, as text or as a number.
func (e *envelope) at() (time.Time, error) {
	var text string
	if len(e.Time) == 0 || string(e.Time) == "null" {
		return time.Time{}, nil
	}
	if json.Unmarshal(e.Time, &text) != nil {
		text = string(e.Time)
	}
	return parseTime("time", text)
}

// content returns the data as a binary-mode event would carry it.
func (e *envelope) content() ([]byte, error) {
	none := len(e.Data) == 0 || string(e.Data) == "null"
	switch {
	case e.DataBase64 != "" && !none:
		return nil, errors.New("it has both data and data_base64: send one of them")
	case e.DataBase64 != "":
		b, err := base64.StdEncoding.DecodeString(e.DataBase64)
		if err != nil {
			return nil, fmt.Errorf("field data_base64: %w", err)
		}
		return b, nil
	case !none && e.Data[0] == '"' && !isJSON(e.DataContentType):
		var text string
		if err := json.Unmarshal(e.Data, &text); err != nil {
			return nil, fmt.Errorf("field data: %w", err)
		}
		return []byte(text), nil
	}
	return e.Data, nil
}

// isJSON reports whether a media type is JSON, as it is where it is missing.
func isJSON(mediaType string) bool {
	name, _, _ := strings.Cut(mediaType, ";")
	name = strings.ToLower(strings.TrimSpace(name))
	return name == "" || strings.HasSuffix(name, "/json") || strings.HasSuffix(name, "+json")
}
