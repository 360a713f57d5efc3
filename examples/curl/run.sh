#!/usr/bin/env bash
# Starts a run by REST, watches it to its end and prints its text and cost. Needs curl and jq.
#
#   examples/curl/run.sh localhost:7180 "Why do blind juries judge better?" [MAX_NANO_USD]
#
# Standard output has the text, standard error the events. The exit code is 1 when the run was refused or has no text.
# DJP_API_KEY has the key where one is asked for; DJP_TLS_CA, DJP_TLS_CERT and DJP_TLS_KEY name the files of TLS.
set -euo pipefail

scheme=http tls=()
if [[ -n ${DJP_TLS_CA:-} ]]; then
  scheme=https tls=(--cacert "$DJP_TLS_CA" --cert "$DJP_TLS_CERT" --key "$DJP_TLS_KEY")
fi
api="$scheme://${1:?the address of the REST bridge, for example localhost:7180}/v1"
task="${2?the task}"
most="${3:-}" # what the run may cost at most, in nano-dollars

# The key goes through a file: in the arguments everybody on this machine could read it.
call() {
  curl -sS "${tls[@]}" -H @<(printf '%s' "${DJP_API_KEY:+authorization: Bearer $DJP_API_KEY}") "$@"
}

# A refusal is google.rpc.Status in JSON: decide by the reason, never by the text.
refused() {
  jq -r '"refused: \([.details[]?.reason // empty][0]): \(.message)"' >&2
  exit 1
}

# How long a refusal that may pass asks to wait, in seconds; nothing for any other answer. A budget's refusal is final.
delay='def delay: [.details[]?] | select(any(.reason | IN("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RATE_LIMITED")))
  | map(.retryDelay // empty)[0] // "1s" | rtrimstr("s");'

# The answer to a call that is made again, at most four times, while its failure may pass.
patiently() {
  local answer wait try
  for try in {1..5}; do
    wait=1
    ! answer=$(call "$@") || wait=$(jq -r "$delay delay" <<<"$answer")
    [[ -n $wait && $try != 5 ]] || break
    sleep "$wait"
  done
  [[ -n $answer ]] && echo "$answer"
}

# The same requestId sent again gets the first answer, so trying again cannot start a second run.
request=$(jq -n --arg id "$(cat /proc/sys/kernel/random/uuid)" --arg task "$task" --arg most "$most" \
  '{requestId: $id, run: ({task: $task} + if $most == "" then {} else {budgetNanoUsd: $most} end)}')
started=$(patiently "$api/runs" --json "$request")
jq -e .run >/dev/null <<<"$started" || refused <<<"$started"
run=$(jq -r .run.runId <<<"$started")

# Server-sent events, one JSON message a line. A stream that breaks is taken up after the last number that was seen;
# curl's own words about that would be written into the lines of the events.
seen=0 tries=0 last=""
until [[ -n $last ]]; do
  ((++tries <= 10)) || { echo "the gateway was lost; run $run goes on there" >&2; exit 1; }
  wait=0.3
  while read -r number kind state; do
    [[ $number != wait ]] || { wait=${kind:-1}; break; }
    ((number > seen)) || continue # a heartbeat has no number
    seen=$number tries=0
    echo "$number $kind" >&2
    case $state in PUBLISHED | ADVISORY | NO_RESULT | DENIED | FAILED | CANCELLED | REJECTED) last=$state ;; esac
  done < <(call -N --no-show-error "$api/runs/$run:watch?afterSequence=$seen" | sed -un 's/^data: //p; /^{/p' | jq --unbuffered -r "$delay"'
      if .event then .event |
        "\(.sequence) \(del(.sequence, .at) | keys[0]) \(.state.state // "" | ltrimstr("RUN_STATE_"))"
      else "wait \(delay)" end' 2>/dev/null)
  [[ -n $last ]] || sleep "$wait"
done

shown=$(patiently "$api/runs/$run")
jq -r '.run.result.text // empty' <<<"$shown"
jq -r '.run | "\(.state | ltrimstr("RUN_STATE_")), cost: \(.result.totalNanoUsd // 0) nano-dollars"' <<<"$shown" >&2
jq -e '.run.error | not' >/dev/null <<<"$shown" ||
  jq -r '.run.error | "\(.reason | ltrimstr("ERROR_REASON_")): \(.message)"' <<<"$shown" >&2
jq -e '.run.result.text // "" != ""' >/dev/null <<<"$shown"
