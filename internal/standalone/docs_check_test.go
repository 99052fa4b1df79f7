package standalone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/vsphere-preemption/vsphere-preemption/internal/cli"
	"github.com/vsphere-preemption/vsphere-preemption/internal/config"
	"github.com/vsphere-preemption/vsphere-preemption/internal/program"
)

// parse checks a command line without running it: its program, subcommand and flags must exist.
func (d *docsSite) parse(line string) error {
	line = strings.NewReplacer("<", "_", ">", "_").Replace(line)
	for _, one := range docsAlternatives(line) {
		args, err := docsWords(one)
		if err != nil {
			return err
		}
		if args[0] != "go" && !slices.Contains(docsOurs, args[0]) {
			args = append([]string{"preemptctl"}, args...)
		}
		if err := d.check(args, nil); err != nil {
			return err
		}
	}
	return nil
}

// docsAlternatives returns a line for each word of a|b.
func docsAlternatives(line string) []string {
	fields := strings.Fields(line)
	for i, field := range fields {
		if strings.Contains(field, "|") && !strings.ContainsAny(field, `'"`) {
			var lines []string
			for word := range strings.SplitSeq(field, "|") {
				lines = append(lines, docsAlternatives(strings.Join(slices.Concat(fields[:i], []string{word}, fields[i+1:]), " "))...)
			}
			return lines
		}
	}
	return []string{line}
}

// docsWords splits a line as a shell does.
func docsWords(line string) ([]string, error) {
	file, err := syntax.NewParser().Parse(strings.NewReader(line), "")
	if err != nil {
		return nil, err
	}
	if len(file.Stmts) == 1 {
		if call, ok := file.Stmts[0].Cmd.(*syntax.CallExpr); ok && len(call.Args) > 0 {
			return expand.Fields(&expand.Config{Env: expand.ListEnviron("PWD=/")}, call.Args...)
		}
	}
	return nil, errors.New("it is not one command")
}

// check checks a command by its words. The environment is nil where only the command line can be checked.
func (d *docsSite) check(args []string, env config.Env) error {
	if args[0] == "go" {
		return d.checkGo(args[1:], env)
	}
	rest := args[1:]
	switch args[0] {
	case "preemptctl":
		return checkPreemptctl(rest)
	case "standalone":
		return checkStandalone(rest)
	}
	var said bytes.Buffer
	path, code, done := program.Server{Name: args[0], Args: rest, Stdout: io.Discard, Stderr: &said, Build: &said}.Flags()
	switch {
	case code != program.Done:
		return errors.New(said.String())
	case done || env == nil:
		return nil
	}
	var err error
	if args[0] == "worker" {
		_, err = config.LoadWorker(env, path)
	} else {
		_, err = config.LoadReceiver(env, path)
	}
	return err
}

var (
	docsUsage = regexp.MustCompile(`(?m)^Usage:\n  preemptctl(.*?)(?: \[.*| [A-Z].*)?$`)
	docsGroup = regexp.MustCompile(`(?m)^Available Commands:`)
)

// checkPreemptctl asks for the help of the command: an unknown flag fails then, and an unknown subcommand gets the help of
// its group.
func checkPreemptctl(args []string) error {
	var out, errs bytes.Buffer
	if code := cli.Run(context.Background(), cli.Options{Args: append(slices.Clone(args), "--help"), Env: config.Env{}, Stdout: &out, Stderr: &errs}); code != program.Done {
		return errors.New(errs.String())
	}
	usage := docsUsage.FindStringSubmatch(out.String())
	if usage == nil {
		return fmt.Errorf("its help has no usage: %s", out.String())
	}
	named := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-") })
	if named < 0 {
		named = len(args)
	}
	path := strings.Fields(usage[1])
	if docsGroup.MatchString(out.String()) && named > len(path) {
		return fmt.Errorf("preemptctl%s has no command %s", usage[1], args[len(path)])
	}
	return nil
}

// checkStandalone reads the options as a run does. A file that only a reader has is left out.
func checkStandalone(args []string) error {
	args = slices.Clone(args)
	for i := len(args) - 2; i >= 0; i-- {
		if _, err := os.Stat(args[i+1]); args[i] == "--config" && err != nil {
			args = slices.Delete(args, i, i+2)
		}
	}
	_, _, err := Program{Args: args, Env: []string{"HOME=" + os.TempDir(), "VCENTER_URL=https://vcenter.example.com"}, Stdout: io.Discard, Stderr: io.Discard}.options()
	return err
}

// checkGo checks a call of go: the packages must exist, and the tests that it names.
func (d *docsSite) checkGo(args []string, env config.Env) error {
	if len(args) < 2 {
		return nil
	}
	var folder string
	for i, arg := range args {
		if strings.HasPrefix(arg, "./") {
			if err := docsFolder(arg); err != nil {
				return err
			}
			folder = arg
			if args[0] == "run" {
				return d.check(append([]string{filepath.Base(arg)}, args[i+1:]...), env)
			}
		}
	}
	for i := 1; i+1 < len(args); i++ {
		kind := map[string]string{"-run": "Test", "-bench": "Benchmark"}[args[i]]
		if kind == "" {
			continue
		}
		if err := docsNamed(folder, kind, args[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// docsFolder checks that a package of the repository exists.
func docsFolder(path string) error {
	if strings.HasSuffix(path, "...") {
		return nil
	}
	if info, err := os.Stat(filepath.Join(docsRoot, path)); err != nil || !info.IsDir() {
		return fmt.Errorf("%s is no package", path)
	}
	return nil
}

// docsNamed checks that each alternative of a pattern matches a test or benchmark of the package. XXX and NONE match none,
// and are meant so.
func docsNamed(folder, kind, pattern string) error {
	files, err := filepath.Glob(filepath.Join(docsRoot, folder, "*_test.go"))
	if err != nil {
		return err
	}
	var source bytes.Buffer
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		source.Write(raw)
	}
	for one := range strings.SplitSeq(pattern, "|") {
		if one == "XXX" || one == "NONE" || one == "." {
			continue
		}
		re, err := regexp.Compile(`(?m)^func ` + kind + `\w*` + strings.TrimPrefix(one, kind))
		if err != nil {
			return err
		}
		if !re.Match(source.Bytes()) {
			return fmt.Errorf("%s has no %s %s", folder, kind, one)
		}
	}
	return nil
}
