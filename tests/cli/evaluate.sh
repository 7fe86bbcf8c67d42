# Preparation and evaluation from outside: generated scans become a data set, the built-in model is measured on it; what is
# killed goes on to the same results; what cannot be is said.
. "$(dirname "$0")/lib.sh"

same() { # NAME FILE FILE
    if cmp -s "$2" "$3"; then pass "$1"; else fail "$1: $2 and $3 differ"; fi
}
counts() { # NAME FOUND WANTED
    if [ "$2" -eq "$3" ]; then pass "$1"; else fail "$1: $2, not $3"; fi
}

expect "phantoms" 0 '' phantom --out "$work/phantoms" --count 2 --size 48,44,32 --modality both --quiet
expect "a data set of them" 0 '' prepare --root "$work/phantoms" --out "$work/data" --split 0,0,1 --quiet
evaluate=(evaluate --model builtin --data "$work/data" --structure "liver,right kidney" --prompts point,box,text
    --jitter 0,4 --shift rician-noise:2 --seed 7 --bootstrap 100)

expect "an evaluation prints a table" 0 'rician-noise:2 +box +4 ' "${evaluate[@]}" --out "$work/whole"
# Four scans, two structures; point and box with two jitters each, text with none; with and without the shift.
counts "a row for each mask" "$(tail -n +2 "$work/whole/results.csv" | wc -l)" $((4 * 2 * 5 * 2))
counts "and a cost" "$(tail -n +2 "$work/whole/costs.csv" | wc -l)" $((4 * 2 * 5 * 2))
[ -s "$work/whole/results.json" ] && pass "results.json" || fail "results.json"
page=$work/whole/report.html
# A page without its pictures and plots would be shorter than this.
[ "$(grep -c '<svg' "$page")" -ge 4 ] && grep -q '<img src="data:image/png' "$page" && grep -q 'rician-noise' "$page" &&
    pass "report.html with plots and pictures" || fail "report.html with plots and pictures"
grep -qE '<script|<link|https?://|(src|href)="[^d]' "$page" && fail "it loads nothing" || pass "it loads nothing"
[ -e "$work/whole.partial" ] && fail "nothing else is left" || pass "nothing else is left"
expect "on other threads" 0 '' "${evaluate[@]}" --out "$work/threads" --threads 1 --quiet
same "the results do not depend on threads" "$work/whole/results.csv" "$work/threads/results.csv"

# Killed in the middle, and gone on with: the same results.
"$ADAPTMEDSEG" "${evaluate[@]}" --out "$work/killed" --quiet > /dev/null 2>&1 &
pid=$!
for _ in $(seq 4000); do
    [ "$(cat "$work/killed.partial"/*.jsonl 2> /dev/null | wc -l)" -ge 9 ] && break
    kill -0 $pid 2> /dev/null || break
    sleep 0.005
done
kill -9 $pid 2> /dev/null
wait $pid 2> /dev/null
if [ -e "$work/killed" ]; then
    skip "the evaluation was faster than the signal"
else
    expect "an unfinished run is not run over" 4 'unfinished' "${evaluate[@]}" --out "$work/killed" --quiet
    expect "other options do not go on with it" 2 '' "${evaluate[@]}" --seed 8 --out "$work/killed" --resume --quiet
    expect "the same ones do" 0 '' "${evaluate[@]}" --out "$work/killed" --resume --quiet
    same "and come to the same rows" "$work/whole/results.csv" "$work/killed/results.csv"
    same "and to the same results" "$work/whole/results.json" "$work/killed/results.json"
    same "and to the same page" "$work/whole/report.html" "$work/killed/report.html"
fi
expect "results are not run over" 4 'exists' "${evaluate[@]}" --out "$work/whole" --quiet
expect "a comparison with earlier results" 0 '' evaluate --model builtin --data "$work/data" --structure liver --prompts box \
    --seed 7 --bootstrap 100 --out "$work/again" --against "$work/whole" --quiet
grep -q '"pairs"' "$work/again/results.json" && pass "is in the results" || fail "is in the results"

# What cannot be
bad=(evaluate --model builtin --out "$out/results" --quiet)
expect "an unknown kind of prompt" 2 'box' "${bad[@]}" --data "$work/data" --prompts boxes
expect "an unknown shift" 2 'rician-noise' "${bad[@]}" --data "$work/data" --shift fog:2
expect "a severity that is none" 2 '1 to 5' "${bad[@]}" --data "$work/data" --shift blur:6
expect "a structure nobody has" 2 'no case has' "${bad[@]}" --data "$work/data" --structure antler
expect "a part with nothing in it" 2 'train' "${bad[@]}" --data "$work/data" --part train
expect "a folder that is no data set" 4 'dataset.json' "${bad[@]}" --data "$work/phantoms"
echo '{' > "$work/data/dataset.json"
expect "a damaged list" 3 'dataset.json' "${bad[@]}" --data "$work/data"

finish
