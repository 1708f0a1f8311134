#!/usr/bin/env bash
# An operator's tour: the log is plain Redis Streams, readable without the hub. docs/redis-keys.md names every key.
#
#   bash examples/redis_tour.sh
set -euo pipefail
say() { printf '\n# %s\n' "$*"; }

hub send conversation:tour 'seen from Redis' > /dev/null

say 'The key of a channel, and redis-cli lines that lead there.'
hub key conversation:tour --tenant acme

key=$(hub key conversation:tour --tenant acme | sed -n 1p)
cli=$(hub key conversation:tour --tenant acme | sed -n "2s/ XLEN .*//p")

say 'Its length and its newest entry: what the hub sends is what stands here.'
$cli XLEN "$key"
$cli XREVRANGE "$key" + - COUNT 1

say 'The first and the last id, and what has been trimmed.'
$cli XINFO STREAM "$key" | sed -n 1,20p

say 'The server: is it on disk, may it forget? A hub refuses a policy other than noeviction.'
$cli INFO persistence | grep aof_enabled
$cli CONFIG GET maxmemory-policy

say 'And the verdict of the hub itself.'
hub doctor
