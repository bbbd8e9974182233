#!/bin/sh
# First start of the stack: simulate a history of healthy machines and train a first bundle on it.
# Does nothing if the registry already holds a bundle. Retrain later with:
#   docker compose run --rm --entrypoint streamer trainer retrain --config /etc/streamer/streamer.yaml --data FILE...
set -eu
config=/etc/streamer/streamer.yaml
bundles=/var/lib/streamer/bundles
history=/var/lib/streamer/data/history.parquet

if [ -e "$bundles/current" ]; then
    echo "train-once: $bundles/current exists; nothing to do"
    exit 0
fi
[ -e "$history" ] || streamer simulate --config "$config" --out "$history" --hours "${HISTORY_HOURS:-72}" \
    --interval "${SIMULATOR_INTERVAL_S:-1}"
exec streamer retrain --config "$config" --data "$history"
