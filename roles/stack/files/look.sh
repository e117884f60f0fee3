# shellcheck shell=sh
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# look NAME DIRECTORY UNIT: what Compose wants of a project (want SERVICE HASH), what there is (have SERVICE HASH), how that
# is (state STATE …), and how its unit is (unit enabled active). Compose's own dry run would ask the registry, with the client's certificates instead of the engine's.
set -eu
docker compose --project-directory "$2" config --hash '*' | sed 's/^/want /'
docker ps --all --filter "label=com.docker.compose.project=$1" --filter label=com.docker.compose.oneoff=False --format \
  'have {{.Label "com.docker.compose.service"}} {{.Label "com.docker.compose.config-hash"}}\nstate {{.State}} {{.Status}}'
# A unit that is neither exits with an error, and says how it is all the same.
printf 'unit %s %s\n' "$(systemctl is-enabled "$3" 2>/dev/null || true)" "$(systemctl is-active "$3" 2>/dev/null || true)"
