#!/usr/bin/env bash
# An auditor's tour: who said what, what it was before it was edited, how things stood at any moment.
#
#   bash examples/audit_tour.sh
set -euo pipefail
say() { printf '\n# %s\n' "$*"; }
channel=conversation:audit
token() { hub token --user "$1" --tenant acme --grant 'conversation:*=read,write'; }

say 'Alice promises something and then edits it.'
promise=$(HUB_TOKEN=$(token alice) hub send "$channel" 'We pay 100' | sed 's/.*"id": "\([^"]*\)".*/\1/')  # a message has its event's id
HUB_TOKEN=$(token bob) hub send "$channel" 'Agreed' > /dev/null
curl -sS -H "Authorization: Bearer $(token alice)" -H 'Content-Type: application/json' \
  -d "{\"type\": \"chat.edit\", \"payload\": {\"message_id\": \"$promise\", \"text\": \"We pay 10\"}}" \
  "$(hub url)/v1/channels/$channel/events" > /dev/null

say 'Everything that happened, in order. Nothing is overwritten: the edit is an event of its own.'
hub replay "$channel" --tenant acme --format text

say 'The state now, and as of the first event.'
hub state "$channel" --tenant acme
hub state "$channel" --tenant acme --at "$promise"

say 'Is the log whole? Each event is held against its number and its checksum; the exit code is 0 if all is well.'
hub audit verify "$channel" --tenant acme
