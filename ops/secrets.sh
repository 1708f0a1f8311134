#!/usr/bin/env bash
# Makes the secrets of docker-compose.yml in a folder (.secrets by default), one file each, and keeps those that are there.
#   ops/secrets.sh [FOLDER] [HOST-OF-REDIS]
set -euo pipefail
folder=${1:-.secrets} redis=${2:-redis}
here=$(cd "$(dirname "$0")" && pwd)
umask 077
mkdir -p "$folder"
chmod -R u+w "$folder"

made() { # NAME: a password, made once
  [ -s "$folder/$1" ] || openssl rand -hex 24 | tr -d '\n' > "$folder/$1"
}

roles=$(grep -o 'PASSWORD:[a-z]*' "$here/redis/users.acl" | cut -d: -f2)
acl=$(grep -v '^#' "$here/redis/users.acl" | grep -v '^$')
for role in $roles; do
  made "redis_$role"
  acl=${acl/PASSWORD:$role/#$(sha256sum < "$folder/redis_$role" | cut -d' ' -f1)}
  printf 'redis://%s:%s@%s:6379/0' "$role" "$(cat "$folder/redis_$role")" "$redis" > "$folder/redis_url_$role"
done
printf '%s\n' "$acl" > "$folder/users.acl"

for name in jwt_secret metrics_token minio_password grafana_password; do made "$name"; done
printf '[default]\naws_access_key_id = hub\naws_secret_access_key = %s\n' "$(cat "$folder/minio_password")" > "$folder/aws_credentials"

# A certificate of one's own for the demo; for a real host put its own here: the chain, then the key.
[ -s "$folder/tls.pem" ] || {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$folder/tls.key" -out "$folder/tls.crt" 2>/dev/null
  cat "$folder/tls.crt" "$folder/tls.key" > "$folder/tls.pem"
}
# Containers run as users of their own and read the files by mounts of single files; the folder keeps everybody else out.
chmod 700 "$folder"
chmod 444 "$folder"/*
