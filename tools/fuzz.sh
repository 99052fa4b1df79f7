#!/usr/bin/env bash
# Fuzzes each target of the module for so long, one after the other: tools/fuzz.sh 2m
# It ends with the table of docs/reliability.md. An input that fails is kept in the package's testdata/fuzz: commit it with the fix.
set -uo pipefail
cd "$(dirname "$0")/.."
if ! [[ "${1:-}" =~ ^[0-9]+[smh]$ ]]; then
	echo "usage: tools/fuzz.sh DURATION    such as 30s, 2m or 1h, for each target" >&2
	exit 2
fi
failed=0 table=$'| package | target | inputs | of them new paths | result |\n| --- | --- | --- | --- | --- |\n'
while IFS=: read -r file _ declared; do
	target=${declared#func }
	target=${target%%(*}
	package=$(dirname "$file")
	printf '== %s %s (%(%H:%M:%S)T)\n' "$package" "$target" -1
	out=$(go test -run XXX -fuzz "^$target\$" -fuzztime "$1" -parallel "${FUZZ_PARALLEL:-1}" "./$package" 2>&1)
	result=passed
	if ! grep -q '^ok' <<<"$out"; then
		printf '%s\n' "$out"
		result='**failed**'
		failed=1
	fi
	last=$(grep -o 'execs: [0-9]* .*total: [0-9]*' <<<"$out" | tail -1)
	inputs=$(sed -E 's/execs: ([0-9]+) .*/\1/' <<<"$last")
	paths=$(sed -nE 's/.*new interesting: ([0-9]+).*/\1/p' <<<"$last")
	table+="| $package | $target | ${inputs:--} | ${paths:--} | $result |"$'\n'
done < <(grep -rn '^func Fuzz' --include='*_test.go' . | sed 's#^\./##' | sort)
printf '%s' "$table"
exit $failed
