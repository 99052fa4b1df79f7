#!/usr/bin/env bash
# Checks what a release rests on: .goreleaser.yaml, the changelog's sections, and, with --build, one program as GoReleaser
# builds it. The release itself needs a tag, a token and an identity, and is not made here.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
	echo "check.sh: $*" >&2
	exit 1
}

cat >"$work/CHANGELOG.md" <<'END'
# Changelog

## Unreleased

- not yet

## v1.10.0 - 2026-02-03

### Added

- ten

## [1.1.0] - 2026-01-02

- one

## 1.0.0
END
[ "$(deploy/release/notes.sh v1.10.0 "$work/CHANGELOG.md")" = "### Added

- ten" ] || fail "the notes of v1.10.0 are not its section"
[ "$(deploy/release/notes.sh 1.1.0 "$work/CHANGELOG.md")" = "- one" ] || fail "the notes of 1.1.0 are not its section"
for none in v1.0.0 v1.1 v2.0.0; do
	if deploy/release/notes.sh "$none" "$work/CHANGELOG.md" >/dev/null 2>&1; then fail "there are notes of $none"; fi
done
deploy/release/notes.sh Unreleased >/dev/null # the section that becomes the next version's

goreleaser=${GORELEASER:-}
if [ -z "$goreleaser" ]; then
	(cd deploy/release/tools && go build -o "$work/goreleaser" github.com/goreleaser/goreleaser/v2)
	goreleaser=$work/goreleaser
fi
"$goreleaser" check
sed 's/^builds:/buildz:/' .goreleaser.yaml >"$work/wrong.yaml"
if "$goreleaser" check -f "$work/wrong.yaml" >/dev/null 2>&1; then fail "a wrong key passed the check"; fi

# Every file that goes into an archive is there.
for pattern in $(sed -n 's/^ *- \(\(docs\|deploy\)\/[^ ]*\)$/\1/p' .goreleaser.yaml); do
	compgen -G "$pattern" >/dev/null || fail "no file is $pattern"
done

if [ "${1:-}" = --build ]; then
	# In a clone, for GoReleaser writes its dist folder into the tree.
	git clone -q --no-local . "$work/clone" 2>/dev/null
	(cd "$work/clone" && "$goreleaser" build --snapshot --clean --single-target --id kn-go-preemption)
	said=$("$work"/clone/dist/kn-go-preemption_*/kn-go-preemption --version)
	case $said in
	*"$(git rev-parse HEAD)"*) echo "$said" ;;
	*) fail "the program says \"$said\", not its commit" ;;
	esac
fi
echo "a release can be made of this"
