# shellcheck shell=sh
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# look: the timers that were laid down, and how each is (NAME enabled active).
set -eu
for timer in /etc/systemd/system/dedicated-backup-*.timer; do
    [ -f "$timer" ] || continue
    name=${timer##*/}
    # One that is neither exits with an error, and says how it is all the same.
    printf '%s %s %s\n' "$name" "$(systemctl is-enabled "$name" 2>/dev/null || true)" \
        "$(systemctl is-active "$name" 2>/dev/null || true)"
done
