#!/usr/bin/env bash
# The hub with nothing but curl.
#
#   export HUB_URL=$(hub url)
#   export HUB_TOKEN=$(hub token --user alice --tenant acme --grant 'conversation:*=read,write')
#   bash examples/curl.sh
set -euo pipefail
channel="$HUB_URL/v1/channels/conversation:curl"
auth="Authorization: Bearer $HUB_TOKEN"
say() { printf '\n\n# %s\n' "$*"; }

say 'Store a message. The key makes it safe to send again: "duplicate" is true the second time, and the seq is the same.'
for _ in 1 2; do
  curl -sS -H "$auth" -H 'Content-Type: application/json' -H 'Idempotency-Key: curl-1' \
    -d '{"type": "chat.message", "payload": {"text": "hello from curl"}}' "$channel/events"
  echo
done

say 'The first page of its history. "next" is the cursor of the page that follows.'
curl -sS -H "$auth" "$channel/events?after=0&limit=10"

say 'Its state: the messages as they stand after all edits.'
curl -sS -H "$auth" "$channel/state"

say 'Follow it for three seconds, from the beginning. After a loss, send the last "id:" as Last-Event-ID and nothing is missing.'
curl -sSN --max-time 3 -H "$auth" -H 'Last-Event-ID: 0' "$channel/stream" 2>/dev/null || [ $? = 28 ]  # 28: the time is over
