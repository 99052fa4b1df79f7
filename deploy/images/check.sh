#!/usr/bin/env bash
# Shows, without network and container engine, that build.sh makes images as promised: it serves a registry here, makes a
# base image of next to nothing, builds PROGRAM... (default: kn-go-preemption, the smallest) for both architectures into
# it, and looks at what came out.
set -euo pipefail
cd "$(dirname "$0")/../.."
programs=("$@")
[ $# -gt 0 ] || programs=(kn-go-preemption)
work=$(mktemp -d)
registry=
cleanup() {
	[ -z "$registry" ] || kill "$registry" 2>/dev/null || true
	rm -rf "$work"
}
trap cleanup EXIT
fail() {
	echo "check.sh: $*" >&2
	exit 1
}

export TOOLS=$work/tools OUT=$work/out DIRTY=ok
mkdir "$TOOLS" "$OUT"
(cd deploy/images/tools && go build -o "$TOOLS/" github.com/google/ko github.com/google/go-containerregistry/cmd/crane)
crane=$TOOLS/crane

# The registry, on a port that the system chooses.
"$crane" registry serve --address 127.0.0.1:0 >"$work/registry.log" 2>&1 &
registry=$!
address=
for _ in $(seq 100); do
	address=$(grep -oE 'port [0-9]+|127\.0\.0\.1:[0-9]+|\[::\]:[0-9]+' "$work/registry.log" | grep -oE '[0-9]+$' | head -n 1 || true)
	[ -z "$address" ] || break
	sleep 0.1
done
[ -n "$address" ] || fail "the registry does not serve: $(cat "$work/registry.log")"
address=127.0.0.1:$address

# The base: a user and nothing else, for two architectures.
mkdir -p "$work/root/etc"
echo 'nonroot:x:65532:65532::/:/sbin/nologin' >"$work/root/etc/passwd"
tar -C "$work/root" --owner 0 --group 0 --mtime @0 -cf "$work/base.tar" etc
for arch in amd64 arm64; do
	"$crane" append --oci-empty-base -f "$work/base.tar" -t "$address/base:$arch" >/dev/null 2>&1
	"$crane" mutate "$address/base:$arch" --set-platform "linux/$arch" --user 65532 -t "$address/base:$arch" >/dev/null 2>&1
done
"$crane" index append -m "$address/base:amd64" -m "$address/base:arm64" -t "$address/base:latest" >/dev/null 2>&1
export BASE KO_DOCKER_REPO=$address/vsphere-preemption
BASE=$address/base@$("$crane" digest "$address/base:latest")

version=v0.0.0-check
if BASE=$address/base:latest deploy/images/build.sh "$version" "${programs[@]}" 2>/dev/null; then fail "a base by tag was taken"; fi
if deploy/images/build.sh latest "${programs[@]}" 2>/dev/null; then fail "a version that is none was taken"; fi
deploy/images/build.sh "$version" "${programs[@]}"

for program in "${programs[@]}"; do
	image=$KO_DOCKER_REPO/$program
	index=$("$crane" manifest "$image:$version")
	for arch in amd64 arm64; do
		grep -q "\"architecture\": *\"$arch\"" <<<"$index" || fail "$program: the index has no $arch: $index"
		config=$("$crane" config --platform "linux/$arch" "$image:$version")
		for want in "\"architecture\":\"$arch\"" '"User":"65532"' "\"/ko-app/$program\"" "\"org.opencontainers.image.version\":\"$version\""; do
			grep -qF "$want" <<<"$config" || fail "$program for $arch: no $want in $config"
		done
		mkdir -p "$work/$program/$arch"
		"$crane" export --platform "linux/$arch" "$image:$version" - | tar -C "$work/$program/$arch" -xf -
		binary=$work/$program/$arch/ko-app/$program
		details=$(go version -m "$binary")
		grep -q "GOARCH=$arch" <<<"$details" || fail "$program for $arch is another architecture's"
		grep -q 'CGO_ENABLED=0' <<<"$details" || fail "$program for $arch needs a C library"
		digest=$("$crane" digest --platform "linux/$arch" "$image:$version")
		"$crane" manifest "$image:${digest/:/-}.sbom" | grep -q 'spdx' || fail "$program for $arch has no SBOM"
	done
	host=$(go env GOHOSTARCH)
	said=$("$work/$program/$host/ko-app/$program" --version)
	date=$(date -u -d "@$(git log -1 --format=%ct)" +%Y-%m-%dT%H:%M:%SZ)
	for want in "$program" "$version" "$(git rev-parse HEAD)" "$date"; do
		grep -qF "$want" <<<"$said" || fail "$program --version says \"$said\", not $want"
	done
	echo "$said"
done
if [ -e "$OUT/release.yaml" ]; then
	grep -q "image: $KO_DOCKER_REPO/worker@sha256:" "$OUT/release.yaml" || fail "release.yaml does not name the image by digest"
fi
echo "images are as promised: ${programs[*]}"
