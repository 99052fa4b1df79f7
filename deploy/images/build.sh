#!/usr/bin/env bash
# Builds the images of a version for amd64 and arm64 with ko, pushes them with their SBOMs, and says what they are.
#
#   KO_DOCKER_REPO=ghcr.io/vsphere-preemption BASE=cgr.dev/chainguard/static@sha256:... deploy/images/build.sh v1.2.3 [PROGRAM...]
#
# BASE is the base image, by digest. Log in to the registry first (docker login, or ko login). In OUT (default bin/images) it
# leaves images.txt, one reference by digest a line, the SBOMs, and where the worker was built a release.yaml that names
# its image by digest. No container engine is needed.
set -euo pipefail
cd "$(dirname "$0")/../.."
fail() {
	echo "build.sh: $*" >&2
	exit 2
}

version=${1:-}
[[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || fail "name the version, such as v1.2.3"
shift
programs=("$@")
[ $# -gt 0 ] || programs=(worker kn-go-preemption preemptctl standalone)
[ -n "${KO_DOCKER_REPO:-}" ] || fail "set KO_DOCKER_REPO to the registry and folder, such as ghcr.io/vsphere-preemption"
[[ ${BASE:-} =~ @sha256:[0-9a-f]{64}$ ]] || fail "set BASE to the base image by digest: a tag may be another image tomorrow"
out=${OUT:-bin/images}
mkdir -p "$out"

commit=$(git rev-parse HEAD)
if [ -n "$(git status --porcelain)" ]; then
	[ "${DIRTY:-}" = ok ] || fail "there are changes that no commit has (DIRTY=ok builds nevertheless, and says so in the version)"
	commit=$commit-dirty
fi
# Dates are the commit's, so that the same commit makes the same image.
export SOURCE_DATE_EPOCH KO_TAG=$version KO_COMMIT=$commit KO_DATE KO_DEFAULTBASEIMAGE=$BASE
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
KO_DATE=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)

tools=${TOOLS:-}
if [ -z "$tools" ]; then
	tools=$(mktemp -d)
	trap 'rm -rf "$tools"' EXIT
	(cd deploy/images/tools && go build -o "$tools/" github.com/google/ko github.com/google/go-containerregistry/cmd/crane)
fi

# A user by name cannot be checked by runAsNonRoot, so that no pod would start.
for platform in linux/amd64 linux/arm64; do
	user=$("$tools/crane" config --platform "$platform" "$BASE" | sed -n 's/.*"User":"\([^"]*\)".*/\1/p')
	[[ ${user%%:*} =~ ^[1-9][0-9]*$ ]] || fail "the base's user for $platform is \"$user\": it must be a number and not 0"
done

"$tools/ko" build --base-import-paths --tags "$version" --sbom spdx --sbom-dir "$out" --image-refs "$out/images.txt" \
	--image-label "org.opencontainers.image.version=$version,org.opencontainers.image.revision=$commit" \
	--image-label org.opencontainers.image.source=https://github.com/vsphere-preemption/vsphere-preemption \
	--image-label org.opencontainers.image.licenses=Apache-2.0 \
	"${programs[@]/#/./cmd/}" >/dev/null

for image in $(cat "$out/images.txt"); do
	# ko lists each platform's image too; the index is what is deployed.
	name=${image##*/}
	name=${name%%[:@]*}
	if [ "$name" = worker ] && "$tools/crane" manifest "$image" | grep -q '"manifests"'; then
		repository=${image%@*}
		reference=${repository%:"$version"}@${image##*@}
		(cd deploy/check && go run ./cmd/render "ghcr.io/vsphere-preemption/worker=$reference") >"$out/release.yaml"
	fi
	echo "$image"
done
