#!/bin/sh
# Create the secrets that docker-compose.yml mounts, if they are missing; never overwrites one.
set -eu
cd "$(dirname "$0")/.."
# The directory keeps other users of this host out. The file itself must be readable by Grafana's own user inside the
# container, which is neither root nor the user who runs this.
mkdir -p secrets
chmod 700 secrets
file=secrets/grafana_admin_password
if [ ! -s "$file" ]; then
    (umask 077 && LC_ALL=C tr -dc 'A-Za-z0-9' < /dev/urandom | head -c 32 > "$file.tmp")
    chmod 644 "$file.tmp"
    mv "$file.tmp" "$file"
    echo "created $file (Grafana: user admin)"
fi
