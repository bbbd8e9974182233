#!/bin/sh
# Say where the compose stack answers, once it is up.
set -eu
cd "$(dirname "$0")/.."
say() { # what service port path
    address=$(docker compose port "$2" "$3" 2>/dev/null) || return 0
    printf '  %-13s http://%s%s\n' "$1" "$address" "${4-}"
}
echo "The stack is up:"
say Grafana grafana 3000
printf '                user admin, password in secrets/grafana_admin_password\n'
say Alertmanager alertmanager 9093
say Prometheus prometheus 9090 /alerts
say streamer streamer 9108 /readyz
echo "A fault in a machine:  docker compose run --rm inject spike machine-3"
echo "Stop and remove it:    make down"
