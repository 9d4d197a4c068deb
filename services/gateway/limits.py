"""Every limit of the gateway, in one place."""

from datetime import timedelta

from libs.service.shared import Rate

# Bodies
BODY_BYTES_MAX = 64 * 1024
BYTES_PER_WRITE = (
    4_096  # a body with more counts as more orders: it takes their room in the log, and for ever on a disk
)
BODY_DEADLINE_S = 10.0  # to arrive; beyond: 408
NUMBER_CHARS_MAX = 64
MEMBERS_MAX = 100  # of an object: to find what is wrong with each of thousands would cost as much as as many orders
ERRORS_SHOWN_MAX = 10
ECHO_CHARS_MAX = 64  # of what the client sent, when an error quotes it

# Accounts
EMAIL_CHARS_MAX = 254  # RFC 5321 §4.5.3.1.3
NAME_CHARS_MAX = 100
PASSWORD_CHARS_MIN, PASSWORD_CHARS_MAX = 8, 256
BCRYPT_ROUNDS = 12
PASSWORD_THREADS = 2
PASSWORDS_WAITING_MAX = 64  # refused beyond: whoever waits longer has given up
DATABASE_CONNECTIONS_MAX = 8
DATABASE_TIMEOUT_S = 5.0

# Credentials
SCOPES = ("orders:read", "orders:write")
CREDENTIAL_CHARS_MAX = 200
SESSIONS_MAX = 100  # of one user; beyond: the oldest ends
API_KEYS_MAX = 20  # of one user
API_KEYS_SEEN_MAX = 10_000
TOKENS_KNOWN_MAX = 10_000
API_KEY_KEPT = timedelta(seconds=15)  # how long a key dropped elsewhere may still be taken here
API_KEY_SOCKET = timedelta(hours=1)  # how long what was opened with a key lasts
LOGINS_PER_ACCOUNT = Rate(10, 600)  # from one address: nobody can lock another out
LOGINS_PER_ACCOUNT_FROM_ALL = Rate(100, 600)  # guessing from many addresses
LOGINS_FROM = Rate(300, 600)  # one address may be many people
SIGNUPS_FROM = Rate(600, 3600)  # each costs a hash, and is kept for ever

# Rates
RATE_LEASE_S = 5.0  # how long permits taken ahead hold
RATE_LEASE_MAX = 256
RATE_LEASES_MAX = 10_000

# Orders
TOKEN_CHARS_MAX = 64
EXPIRES_IN_MAX = timedelta(hours=24)
LIMIT_EXPIRES_IN_MAX = timedelta(days=90)
METADATA_KEYS_MAX, METADATA_CHARS_MAX = 16, 256
IDEMPOTENCY_KEY_CHARS_MAX = 255
ORDERS_PER_BATCH_MAX = 100
EXPANDED_ORDERS_MAX = 20  # of a page with the events of each
SCANNED_ORDERS_MAX = 1_000  # for one page of a filtered list
SHOWN_ORDERS_KEPT = 10_000  # ended orders as JSON, for lists
PAGE_DEFAULT = 50
RESUME_ENTRIES_MAX = 50_000  # of everybody in the partition, behind a cursor
READ_FREELY = 500  # of them: who asks for no more waits for nobody
READERS_AT_ONCE, READERS_OF_USER = 8, 2  # of that much, or of many histories; the rest wait
TURN_WAIT_S = 2.0  # the longest for what one user asked for before; beyond: 429
ROOM_WAIT_S = 5.0  # for what all others asked for before; beyond: 503
# Beyond: 503, as asyncpg may take much longer to give a silent connection up. A silent Redis is waited for by rates
# (2 s) and then by the log (5 s), which says what it is: who ended that would take it for the database.
READ_DEADLINE_S = 8.0

# Quotes
QUOTE_FIRM_FOR = timedelta(seconds=10)
QUOTE_EVERY_S = 1.0  # a stream looks again
QUOTE_STREAM_S = 600.0
QUOTE_STREAMS_PER_USER_MAX, QUOTE_STREAMS_MAX = 5, 500
QUOTE_STREAMS_ONE_IN = 16  # of the connections that open files permit, if that is less
QUOTE_ID_CHARS_MAX = 512

# Commits
OUTCOME_DEADLINE_S = 2.0  # how long an unknown outcome is asked after
OUTCOME_PAUSE_S, OUTCOME_PAUSE_MAX_S = 0.02, 0.4
CANCEL_TRIES_MAX = 20  # an order has far fewer events before it can no longer be cancelled
RETRY_AFTER_S = 1  # told to clients with a 503

# WebSockets on their way to the notifier
TUNNELS_MAX = 10_000  # or three quarters of what the process' open files permit, if that is less
CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 10.0  # of a notifier that answers nobody
ANSWER_BEHIND_OTHERS_S = 30.0  # of one that answers others first, when many come back at once
STILL_THERE_EVERY_S = 2.0  # whether who waits for it has left is looked at
ANSWER_BYTES_MAX = 64 * 1024
LINGER_S = 5.0  # for what is still to be written when the other end has closed

# Sockets for orders
ENTRY_SOCKETS_MAX, ENTRY_SOCKETS_PER_USER_MAX = 2_000, 20
ENTRY_ONE_IN = 8  # of the connections that open files permit, if that is less
ENTRY_STRANGERS_MAX = 200  # that have not said who they are, or a tenth of all; beyond: the oldest is cut off
ENTRY_MESSAGES_IN_HAND_MAX = 128  # of one socket; beyond: it is not read
ENTRY_AUTH_WAIT_S = 10.0
ENTRY_PING_S = 25.0
ENTRY_UNREAD_S = 25.0  # an answer the client does not take; beyond: cut off

# Overload
PRESSURE_EVERY_S = 1.0
OVERLOAD_RETRY_AFTER_S = 5

# Readiness
CHECK_EVERY_S = 2.0
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.2, 2.0
