package placement

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vsphere-preemption/vsphere-preemption/internal/clock"
	"github.com/vsphere-preemption/vsphere-preemption/internal/policy"
)

// What vSphere allows at most. Memory is given in multiples of memoryUnit.
const (
	maxCPUs     = 768
	maxMemoryMB = 25_165_824
	memoryUnit  = 4 // MB
)

const maxCooldown = 30 * 24 * time.Hour

// WithDefaults fills what is left out, by the name of the alarm that the rule is for: the alarms of the original
// functions get what those did.
func (s Resize) WithDefaults(alarm string) Resize {
	if s.Resource == "" {
		switch alarm {
		case AlarmCPU, AlarmOriginalCPU:
			s.Resource = CPU
		case AlarmMemory, AlarmOriginalMemory:
			s.Resource = Memory
		}
	}
	mode, sizing := ModeRecommend, SizingSteps
	if alarm == AlarmOriginalCPU || alarm == AlarmOriginalMemory || alarm == AlarmOriginalStorage {
		mode, sizing = ModeTag, SizingOriginal
	}
	fill(&s.Mode, mode)
	fill(&s.Sizing, sizing)
	fill(&s.Max, s.defaultMax())
	fill(&s.Cooldown, clock.Duration(DefaultCooldown))
	return s
}

// defaultMax is the largest size where the rule names none: virtual CPUs, or MB; 0 where the resource is unknown.
func (s Resize) defaultMax() int {
	original := s.Sizing == SizingOriginal
	switch {
	case s.Resource == CPU && original:
		return OriginalMaxCPUs
	case s.Resource == CPU:
		return DefaultMaxCPUs
	case s.Resource == Memory && original:
		return OriginalMaxMemory
	case s.Resource == Memory:
		return DefaultMaxMemoryMB
	}
	return 0
}

// WithDefaults fills what is left out.
func (m Move) WithDefaults() Move {
	fill(&m.TargetUsage, DefaultTargetUsage)
	fill(&m.OverCommit, DefaultOverCommit)
	fill(&m.Cooldown, clock.Duration(DefaultMoveCooldown))
	return m
}

func fill[T comparable](to *T, value T) {
	var none T
	if *to == none {
		*to = value
	}
}

// PowerCycle returns when ModePowerCycle may turn a VM off.
func (s Resize) PowerCycle() policy.Window {
	return policy.Window{Cron: s.Window, Duration: s.Duration, TimeZone: s.TimeZone}
}

// Check tells every impossible value, naming its key and the allowed values. The defaults are to be filled in
// first.
func (s Resize) Check() error {
	var p problems
	p.oneOf("resource", s.Resource, CPU, Memory)
	p.oneOf("mode", s.Mode, ModeRecommend, ModeTag, ModeHotAdd, ModeHotOrOff, ModePowerCycle)
	p.oneOf("sizing", s.Sizing, SizingSteps, SizingOriginal)
	if s.Resource == Memory {
		p.within("max", s.Max, memoryUnit, maxMemoryMB)
	} else {
		p.within("max", s.Max, 1, maxCPUs)
	}
	p.cooldown(s.Cooldown)
	switch {
	case s.PowerCycle() != policy.Window{}:
		if err := s.PowerCycle().Check(); err != nil {
			p = append(p, err)
		}
	case s.Mode == ModePowerCycle:
		p.add("mode", "%s needs a window and its duration, such as window \"0 2 * * SUN\" and duration 4h", ModePowerCycle)
	}
	return errors.Join(p...)
}

// Check tells every impossible value, naming its key and the allowed values. The defaults are to be filled in
// first.
func (m Move) Check() error {
	var p problems
	p.within("targetUsage", m.TargetUsage, 20, MaxUsage)
	p.appliesOrTells(m.Mode)
	p.cooldown(m.Cooldown)
	p.within("overCommit", m.OverCommit, 100, 1000)
	return errors.Join(p...)
}

// Check tells every impossible value, naming its key and the allowed values.
func (r Reconfigure) Check() error {
	var p problems
	p.appliesOrTells(r.Mode)
	return errors.Join(p...)
}

// problems collects what is wrong, each as a policy.KeyError.
type problems []error

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, &policy.KeyError{Key: key, Err: fmt.Errorf(format, args...)})
}

func (p *problems) oneOf(key, got string, want ...string) {
	if !slices.Contains(want, got) {
		p.add(key, "%q is not one of %s", got, strings.Join(want, ", "))
	}
}

func (p *problems) within(key string, got, low, high int) {
	if got < low || got > high {
		p.add(key, "%d is not within %d to %d", got, low, high)
	}
}

func (p *problems) cooldown(got clock.Duration) {
	if got.D() < 0 || got.D() > maxCooldown {
		p.add("cooldown", "%s is not within 0s to 720h (30 days)", got)
	}
}

// appliesOrTells checks the mode of a rule that has but two.
func (p *problems) appliesOrTells(mode string) {
	if mode != "" && mode != ModeRecommend {
		p.add("mode", "%q is not %s; leave it out to act", mode, ModeRecommend)
	}
}
