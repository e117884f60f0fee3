# shellcheck shell=sh
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# look ADDRESS PROGRAM ...: which packages there are (package installed NAME), where the host's address is (link JSON),
# how each program is (program HASH OWNER GROUP MODE PATH), and how keepalived's unit is (unit enabled active).
set -eu
# shellcheck disable=SC2016 # dpkg-query expands it
dpkg-query --show --showformat 'package ${db:Status-Status} ${Package}\n'
link=$(ip -json -4 address show to "$1/32")
printf 'link %s\n' "$link"
shift
for program; do
    [ -f "$program" ] || continue
    hash=$(sha256sum <"$program" | cut -c1-64)
    printf 'program %s %s\n' "$hash" "$(stat --format '%U %G %a %n' "$program")"
done
# A unit that is neither exits with an error, and says how it is all the same.
printf 'unit %s %s\n' "$(systemctl is-enabled keepalived.service 2>/dev/null || true)" \
    "$(systemctl is-active keepalived.service 2>/dev/null || true)"
