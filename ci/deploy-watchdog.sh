#!/bin/sh
# Tells a deploy-watchdog that a version is live, waits, and ends as `deploy-watchdog wait` does:
#   0 passed · 1 rolled_back, not_recovered, smoke_failed · 2 inconclusive, superseded, cancelled, not_needed
#   3 held, failed, unknown · 4 usage or connection error, or no outcome in time
# Needs sh, curl 7.71 or newer and sed. Everything comes by environment:
#   DEPLOY_WATCHDOG_URL, DEPLOY_WATCHDOG_TOKEN, WATCH_SERVICE, WATCH_VERSION (required), WATCH_ID (recommended: of your
#   run, so that a retry is the same deploy), WATCH_PREVIOUS_VERSION, WATCH_ENVIRONMENT, WATCH_STRATEGY, WATCH_SHARE,
#   WATCH_MIGRATION, WATCH_TRAIN, WATCH_TIMEOUT_S (3600), WATCH_ALLOW_INCONCLUSIVE (true: 2 becomes 0)
set -eu

fail() {
    echo "deploy-watchdog: $1" >&2
    exit 4
}

# What enters JSON and addresses is checked against the signs that the daemon itself allows.
plain() {
    case "$2" in
        '' | -* | *[!A-Za-z0-9._:/@+-]*) fail "$1 '$2' is not allowed; expected A-Z a-z 0-9 . _ : / @ + -, not starting with -" ;;
    esac
}

: "${WATCH_TIMEOUT_S:=3600}" "${WATCH_ALLOW_INCONCLUSIVE:=false}"
[ -n "${DEPLOY_WATCHDOG_TOKEN:-}" ] || fail "DEPLOY_WATCHDOG_TOKEN is not set"
case "${DEPLOY_WATCHDOG_URL:-}" in
    http://?* | https://?*) url=${DEPLOY_WATCHDOG_URL%/} ;;
    *) fail "DEPLOY_WATCHDOG_URL '${DEPLOY_WATCHDOG_URL:-}' is no address such as https://watchdog.example.com" ;;
esac
case "$WATCH_TIMEOUT_S" in
    '' | *[!0-9]*) fail "WATCH_TIMEOUT_S '$WATCH_TIMEOUT_S' is no whole number of seconds" ;;
esac
case "${WATCH_SHARE:-1}" in
    *[!0-9.]* | *.*.* | .) fail "WATCH_SHARE '$WATCH_SHARE' is no number between 0 and 1" ;;
esac

event=''
add() {
    [ -n "$3" ] || return 0
    plain "$2" "$3"
    event="$event${event:+, }\"$1\": \"$3\""
}
[ -n "${WATCH_SERVICE:-}" ] || fail "WATCH_SERVICE is not set"
[ -n "${WATCH_VERSION:-}" ] || fail "WATCH_VERSION is not set"
add service WATCH_SERVICE "$WATCH_SERVICE"
add version WATCH_VERSION "$WATCH_VERSION"
add id WATCH_ID "${WATCH_ID:-}"
add previous_version WATCH_PREVIOUS_VERSION "${WATCH_PREVIOUS_VERSION:-}"
add environment WATCH_ENVIRONMENT "${WATCH_ENVIRONMENT:-}"
add strategy WATCH_STRATEGY "${WATCH_STRATEGY:-}"
add migration WATCH_MIGRATION "${WATCH_MIGRATION:-}"
add train WATCH_TRAIN "${WATCH_TRAIN:-}"
[ -z "${WATCH_SHARE:-}" ] || event="$event, \"share\": $WATCH_SHARE"

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
# The token goes by stdin: it stands in no argument list. Answers come as three lines: id, outcome, sentence.
ask() {
    printf 'header = "Authorization: Bearer %s"\n' "$DEPLOY_WATCHDOG_TOKEN" |
        curl --config - --silent --show-error --header 'Accept: text/plain' --output "$answer" \
            --write-out '%{http_code}' --connect-timeout 10 "$@"
}

status=$(ask "$url/api/v1/deploys" --header 'Content-Type: application/json' --data "{$event}" --max-time 30 \
    --retry 5 --retry-connrefused --retry-max-time 120) || fail "cannot reach the daemon at $url"
case "$status" in
    200 | 201) ;;
    *) fail "the daemon refused the deploy with status $status: $(cat "$answer")" ;;
esac
id=$(sed -n 1p "$answer")
plain 'the id' "$id"
path=$(printf %s "$id" | sed 's|%|%25|g; s|/|%2F|g; s|+|%2B|g')
page="$url/deploys/$path"
echo "watching $id: $page"

until=$(($(date +%s) + WATCH_TIMEOUT_S))
outcome='' sentence='' said=''
while :; do
    left=$((until - $(date +%s)))
    [ "$left" -gt 0 ] || left=0
    wait=$((left > 60 ? 60 : left))
    status=$(ask "$url/api/v1/deploys/$path?wait=$wait" --max-time $((wait + 30))) || status=000
    case "$status" in
        200)
            outcome=$(sed -n 2p "$answer")
            sentence=$(sed -n 3p "$answer")
            ;;
        000 | 429 | 502 | 503 | 504) ;; # it restarts, or is busy: asked again
        *) fail "the daemon answered $status: $(cat "$answer")" ;;
    esac
    [ "$sentence" = "$said" ] || printf '%s\n' "$sentence"
    said=$sentence
    if [ "$outcome" != undecided ] && [ -n "$outcome" ]; then break; fi
    [ "$left" -gt 0 ] || break
    sleep 1
done

case "$outcome" in
    passed) code=0 conclusion=success ;;
    rolled_back | not_recovered | smoke_failed) code=1 conclusion=failure ;;
    inconclusive | superseded | cancelled | not_needed) code=2 conclusion=neutral ;;
    held | failed | unknown) code=3 conclusion=action_required ;;
    *)
        code=4 conclusion=timed_out outcome=undecided
        echo "deploy-watchdog: no outcome within $WATCH_TIMEOUT_S s; it is still being watched" >&2
        ;;
esac

json() { printf %s "$1" | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g'; }
xml() { printf %s "$1" | tr -d '\000-\037' | sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g; s/"/\&quot;/g'; }

if [ -n "${GITHUB_OUTPUT:-}" ]; then
    printf 'id=%s\noutcome=%s\nexit-code=%s\nurl=%s\nsentence=%s\n' "$id" "$outcome" "$code" "$page" "$sentence" >>"$GITHUB_OUTPUT"
    printf '### deploy-watchdog: %s\n\n%s\n\n[%s](%s)\n' "$outcome" "$(xml "$sentence")" "$id" "$page" >>"${GITHUB_STEP_SUMMARY:-/dev/null}"
    kind=error
    [ "$code" -ne 0 ] || kind=notice
    [ "$code" -ne 2 ] || kind=warning
    printf '::%s title=deploy-watchdog: %s::%s\n' "$kind" "$outcome" "$(printf %s "$sentence" | sed 's/%/%25/g')"
fi
if [ -n "${GITHUB_OUTPUT:-}" ] && [ -n "${WATCH_CHECK_TOKEN:-}" ]; then
    name=$(json "deploy-watchdog / $WATCH_SERVICE")
    check="{\"name\": \"$name\", \"head_sha\": \"$GITHUB_SHA\", \"status\": \"completed\", \"conclusion\": \"$conclusion\",
        \"details_url\": \"$page\", \"output\": {\"title\": \"$outcome\", \"summary\": \"$(json "$sentence")\"}}"
    status=$(printf 'header = "Authorization: Bearer %s"\n' "$WATCH_CHECK_TOKEN" |
        curl --config - --silent --output /dev/null --write-out '%{http_code}' --max-time 30 --data "$check" \
            --header 'Accept: application/vnd.github+json' --header 'X-GitHub-Api-Version: 2022-11-28' \
            "${GITHUB_API_URL:-https://api.github.com}/repos/$GITHUB_REPOSITORY/check-runs") || status=000
    [ "$status" = 201 ] || echo "::warning::deploy-watchdog: no check run was made (status $status); does the job have permissions: checks: write?"
fi
if [ -n "${GITLAB_CI:-}" ]; then
    printf 'DEPLOY_WATCHDOG_ID=%s\nDEPLOY_WATCHDOG_OUTCOME=%s\nDEPLOY_WATCHDOG_PAGE=%s\n' "$id" "$outcome" "$page" >deploy-watchdog.env
    bad=''
    [ "$code" -eq 0 ] || bad="<failure message=\"$outcome\">$(xml "$sentence") $(xml "$page")</failure>"
    printf '<testsuite name="deploy-watchdog" tests="1"><testcase classname="%s" name="%s">%s</testcase></testsuite>\n' \
        "$(xml "$WATCH_SERVICE")" "$(xml "$WATCH_VERSION")" "$bad" >deploy-watchdog.xml
fi

if [ "$code" -eq 2 ] && [ "$WATCH_ALLOW_INCONCLUSIVE" = true ]; then code=0; fi
exit "$code"
