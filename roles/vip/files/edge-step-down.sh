#!/bin/bash -eu
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# edge-step-down ADDRESS    Give the virtual address to another edge, if it is here, so that no request is cut off.
#
# For two seconds every answer ends its connection: a request sent on a kept one at the moment it is closed would be
# lost, and only its client could know whether to repeat it. Then new connections are left unanswered, so that their
# clients try again after a second; who is under way gets his answer; then Traefik is restarted, and keepalived lets the
# address go with its first no. What is held back is so for ten seconds at most, whatever becomes of this script; the
# routes are laid down anew by site.yml if it died in between.
address=$1
routes=/opt/dedicated/edge/conf/dynamic/odoo.yml

held() {
    [[ -n $(ip -oneline -4 address show to "$address/32") ]]
}

# Whether a client waits for an answer: he spoke last, or was spoken to just now. Kept connections and websockets rest.
under_way() {
    ss --no-header --tcp --numeric --info --oneline state established src "$address" '( sport = :80 or sport = :443 )' |
        awk '{
            sent = received = -1
            for (i = 1; i <= NF; i++) {
                if ($i ~ /^lastsnd:/) sent = substr($i, 9) + 0
                if ($i ~ /^lastrcv:/) received = substr($i, 9) + 0
            }
            if (sent >= 0 && (received < sent || sent < 100)) found = 1
        } END { exit !found }'
}

reloads() {
    exec 3<>/dev/tcp/127.0.0.1/8082
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
    timeout 2 sed --quiet 's/^traefik_config_reloads_total //p' <&3
}

# Traefik watches the directory and takes a renamed file at once; a name that does not end in .yml is none of its files.
rewrite() {
    cp --preserve "$routes" "$routes.new"
    sed --expression "$1" "$routes" >"$routes.new"
    mv "$routes.new" "$routes"
}

if ! held; then
    echo "$address is not here"
    exit 0
fi
trap "nft delete table inet dedicated_hold 2>/dev/null || true; rewrite '/^ *Connection: close\$/d'" EXIT
before=$(reloads)
rewrite 's/^\( *\)customResponseHeaders:$/&\n\1  Connection: close/'
for ((i = 0; i < 50; i++)); do
    [[ $(reloads) == "$before" ]] || break
    sleep 0.1
done
sleep 2
# Declared before it is deleted, so that it may be there or not.
nft -f - <<END
table inet dedicated_hold
delete table inet dedicated_hold
table inet dedicated_hold {
    set held { type inet_service; flags timeout; elements = { 80 timeout 10s, 443 timeout 10s }; }
    chain input {
        type filter hook input priority -10; policy accept;
        ip daddr $address tcp dport @held tcp flags & (syn | ack) == syn drop
    }
}
END
for ((i = 0; i < 60; i++)); do
    under_way || break
    sleep 0.05
done
docker restart --time 30 traefik >/dev/null
for ((i = 0; i < 100; i++)); do
    if ! held; then
        echo "$address has moved"
        exit 0
    fi
    sleep 0.1
done
echo "$address is still here: no other edge takes it" >&2
exit 1
