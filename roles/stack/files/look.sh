# shellcheck shell=sh
# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# look NAME DIRECTORY: what Compose wants of a project (want SERVICE HASH), what there is (have SERVICE HASH), and how that
# is (state STATE …). Compose's own dry run would ask the registry, with the client's certificates instead of the engine's.
set -eu
docker compose --project-directory "$2" config --hash '*' | sed 's/^/want /'
docker ps --all --filter "label=com.docker.compose.project=$1" --filter label=com.docker.compose.oneoff=False --format \
  'have {{.Label "com.docker.compose.service"}} {{.Label "com.docker.compose.config-hash"}}\nstate {{.State}} {{.Status}}'
