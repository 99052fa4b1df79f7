#!/usr/bin/env bash
# Prints what CHANGELOG.md says of a version: deploy/release/notes.sh v1.2.3 [FILE]. A version of which it says nothing
# is no version to release: exit 1.
set -euo pipefail
version=${1:?name the version, such as v1.2.3}
file=${2:-$(dirname "$0")/../../CHANGELOG.md}
notes=$(awk -v version="${version#v}" '
	/^## / { title = $2; gsub(/[][]/, "", title); sub(/^v/, "", title); on = title == version; next }
	on { print }
' "$file" | sed -e '/./,$!d')
if [ -z "$notes" ]; then
	echo "notes.sh: $file has no section ## $version, or it is empty" >&2
	exit 1
fi
printf '%s\n' "$notes"
