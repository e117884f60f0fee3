#!/bin/bash -eu
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# edge-let-go ADDRESS    Called by keepalived when this edge has let the address go.
#
# A client whose connection was left behind here would wait for an answer that nobody can send any more, until it gives
# up. It is told, and asks again. For that moment the address is here once more, where no neighbour learns of it.
address=$1
trap 'ip address delete "$address/32" dev lo 2>/dev/null || true' EXIT
sysctl --quiet --write net.ipv4.conf.all.arp_ignore=1
ip address add "$address/32" dev lo scope host
ss --kill --no-header --tcp --numeric state established src "$address" >/dev/null
