# SPDX-FileCopyrightText: dedicated.odoo contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Redis 8.0.2 and its Sentinel answered: three nodes at rest, and a quarter of a second into a failover."""

from __future__ import annotations


def words(text: str) -> list[str]:
    """A list of names and values, written as one text."""
    return text.split()


def lines(text: str) -> str:
    """An answer of INFO."""
    return text.strip().replace("\n", "\r\n") + "\r\n"


HEALTHY_MASTER = words(
    """
    name sessions ip 127.0.0.13 port 36379 runid 64e264bc6b47213074bacd44a726a90a21df4de8 flags master
    link-pending-commands 0 link-refcount 1 last-ping-sent 0 last-ok-ping-reply 533 last-ping-reply 533
    down-after-milliseconds 3000 info-refresh 7029 role-reported master role-reported-time 246764 config-epoch 6
    num-slaves 2 num-other-sentinels 2 quorum 2 failover-timeout 20000 parallel-syncs 1
    """
)
HEALTHY_REPLICAS = [
    words(
        """
        name 127.0.0.12:36379 ip 127.0.0.12 port 36379 runid db65857727a4e5a6e96095df8d98f785fdeac5b8 flags slave
        link-pending-commands 0 link-refcount 1 last-ping-sent 0 last-ok-ping-reply 1038 last-ping-reply 1038
        down-after-milliseconds 3000 info-refresh 7114 role-reported slave role-reported-time 238401
        master-link-down-time 0 master-link-status ok master-host 127.0.0.13 master-port 36379 slave-priority 100
        slave-repl-offset 429112 replica-announced 1
        """
    ),
    words(
        """
        name 127.0.0.11:36379 ip 127.0.0.11 port 36379 runid 4c3aec46e0c3a3abfe523c72f3ab1ea889ed0fca flags slave
        link-pending-commands 0 link-refcount 1 last-ping-sent 0 last-ok-ping-reply 533 last-ping-reply 533
        down-after-milliseconds 3000 info-refresh 3766 role-reported slave role-reported-time 167594
        master-link-down-time 0 master-link-status ok master-host 127.0.0.13 master-port 36379 slave-priority 100
        slave-repl-offset 429792 replica-announced 1
        """
    ),
]
HEALTHY_SENTINELS = [
    words(
        """
        name 2ae83d98beedbe241fe88e3f970637fc9189e9ce ip 127.0.0.11 port 46379 runid
        2ae83d98beedbe241fe88e3f970637fc9189e9ce flags sentinel link-pending-commands 0 link-refcount 1
        last-ping-sent 0 last-ok-ping-reply 1038 last-ping-reply 1038 down-after-milliseconds 3000
        last-hello-message 203 voted-leader ? voted-leader-epoch 0
        """
    ),
    words(
        """
        name 4bb9fceda4e2eac943e492d28794e57d47ba632b ip 127.0.0.13 port 46379 runid
        4bb9fceda4e2eac943e492d28794e57d47ba632b flags sentinel link-pending-commands 0 link-refcount 1
        last-ping-sent 0 last-ok-ping-reply 533 last-ping-reply 533 down-after-milliseconds 3000 last-hello-message
        6 voted-leader ? voted-leader-epoch 0
        """
    ),
]
FAILING_OVER_MASTER = words(
    """
    name sessions ip 127.0.0.13 port 36379 runid 64e264bc6b47213074bacd44a726a90a21df4de8 flags
    master,failover_in_progress,force_failover link-pending-commands 0 link-refcount 1 failover-state wait_promotion
    last-ping-sent 0 last-ok-ping-reply 896 last-ping-reply 896 down-after-milliseconds 3000 info-refresh 7392
    role-reported master role-reported-time 247127 config-epoch 6 num-slaves 2 num-other-sentinels 2 quorum 2
    failover-timeout 20000 parallel-syncs 1
    """
)
FAILING_OVER_REPLICAS = [
    words(
        """
        name 127.0.0.12:36379 ip 127.0.0.12 port 36379 runid db65857727a4e5a6e96095df8d98f785fdeac5b8 flags slave
        link-pending-commands 0 link-refcount 1 last-ping-sent 0 last-ok-ping-reply 355 last-ping-reply 355
        down-after-milliseconds 3000 info-refresh 156 role-reported slave role-reported-time 238764
        master-link-down-time 0 master-link-status ok master-host 127.0.0.13 master-port 36379 slave-priority 100
        slave-repl-offset 430608 replica-announced 1
        """
    ),
    words(
        """
        name 127.0.0.11:36379 ip 127.0.0.11 port 36379 runid 4c3aec46e0c3a3abfe523c72f3ab1ea889ed0fca flags
        slave,disconnected,promoted link-pending-commands 0 link-refcount 1 last-ping-sent 0 last-ok-ping-reply 896
        last-ping-reply 896 down-after-milliseconds 3000 info-refresh 156 role-reported slave role-reported-time
        167957 master-link-down-time 0 master-link-status ok master-host 127.0.0.13 master-port 36379 slave-priority
        100 slave-repl-offset 430608 replica-announced 1
        """
    ),
]
FAILING_OVER_SENTINELS = [
    words(
        """
        name 2ae83d98beedbe241fe88e3f970637fc9189e9ce ip 127.0.0.11 port 46379 runid
        2ae83d98beedbe241fe88e3f970637fc9189e9ce flags sentinel link-pending-commands 0 link-refcount 1
        last-ping-sent 0 last-ok-ping-reply 355 last-ping-reply 355 down-after-milliseconds 3000 last-hello-message
        566 voted-leader ? voted-leader-epoch 0
        """
    ),
    words(
        """
        name 4bb9fceda4e2eac943e492d28794e57d47ba632b ip 127.0.0.13 port 46379 runid
        4bb9fceda4e2eac943e492d28794e57d47ba632b flags sentinel link-pending-commands 0 link-refcount 1
        last-ping-sent 0 last-ok-ping-reply 896 last-ping-reply 896 down-after-milliseconds 3000 last-hello-message
        369 voted-leader ? voted-leader-epoch 0
        """
    ),
]
CKQUORUM = "OK 3 usable Sentinels. Quorum and failover authorization can be reached"
INFO_SENTINEL = lines(
    """
# Sentinel
sentinel_masters:1
sentinel_tilt:0
sentinel_tilt_since_seconds:-1
sentinel_running_scripts:0
sentinel_scripts_queue_length:0
sentinel_simulate_failure_flags:0
master0:name=sessions,status=ok,address=127.0.0.13:36379,slaves=2,sentinels=3
"""
)
ROLE_MASTER = ["master", 430608, [["127.0.0.12", "36379", "430336"], ["127.0.0.11", "36379", "430336"]]]
ROLE_REPLICA = ["slave", "127.0.0.13", 36379, "connected", 430608]
CONFIG_REPLICA = words(
    """
    replica-announce-ip 127.0.0.11 port 0 tls-port 36379 replica-announce-port 0 min-replicas-to-write 1
    """
)
INFO_PERSISTENCE = lines(
    """
# Persistence
loading:0
async_loading:0
current_cow_peak:0
current_cow_size:0
current_cow_size_age:0
current_fork_perc:0.00
current_save_keys_processed:0
current_save_keys_total:0
rdb_changes_since_last_save:3727
rdb_bgsave_in_progress:0
rdb_last_save_time:1795314322
rdb_last_bgsave_status:ok
rdb_last_bgsave_time_sec:-1
rdb_current_bgsave_time_sec:-1
rdb_saves:0
rdb_last_cow_size:0
rdb_last_load_keys_expired:0
rdb_last_load_keys_loaded:3746
aof_enabled:1
aof_rewrite_in_progress:0
aof_rewrite_scheduled:0
aof_last_rewrite_time_sec:1
aof_current_rewrite_time_sec:-1
aof_last_bgrewrite_status:ok
aof_rewrites:1
aof_rewrites_consecutive_failures:0
aof_last_write_status:ok
aof_last_cow_size:1204224
module_fork_in_progress:0
module_fork_last_cow_size:0
aof_current_size:94780
aof_base_size:94780
aof_pending_rewrite:0
aof_buffer_length:0
aof_pending_bio_fsync:0
aof_delayed_fsync:0
"""
)
