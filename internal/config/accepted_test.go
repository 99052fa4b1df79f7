package config

import "strings"

// accepted tells whether the decoder takes a value, beside what the key needs.
func accepted(path string, value any) error {
	text := document(path, value)
	if strings.Contains(path, ".target.") && !strings.HasSuffix(path, ".cpu") {
		text = strings.Replace(text, `"target":{`, `"target":{"cpu":100,`, 1)
	}
	const restored = `"restore":{"enabled":true},"criticality":{`
	if value == "throttle" {
		text = strings.Replace(text, `"action":`, `"throttle":{"cpu":"25%"},"action":`, 1)
		text = strings.Replace(text, `"criticality":{`, restored, 1)
	}
	if strings.HasSuffix(path, ".steps") {
		text = strings.Replace(text, `"criticality":{`, restored, 1)
	}
	if strings.HasSuffix(path, ".throttle.cpu") {
		text = strings.Replace(text, `"throttle":`, `"action":"throttle","throttle":`, 1)
		text = strings.Replace(text, `"criticality":{`, restored, 1)
	}
	_, err := ParseFile("p.yaml", []byte(text))
	return err
}
