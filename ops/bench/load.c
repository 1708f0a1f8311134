/* The load generator of `hub bench`: thousands of WebSocket clients in one thread.
 *
 * It takes one command a line on stdin and answers each with one JSON object a line on stdout. Every message it publishes carries
 *
 *     ~<name>.<number>.<publisher>.<nanoseconds>~
 *
 * in its text: the channel (by the number of its name, and its own number), the client that sent it, and the time at which it was
 * due. Every event that arrives is found by that mark, in whatever the server wraps it, and is checked: the server's own sequence
 * number must be the next one of that channel on that client, where the server tells one. Latencies go into log-linear histograms.
 *
 * A dialect is the little a server has of its own: its first message, its publish, and what its replies mean.
 * `load histogram` reads numbers and prints their quantiles, for tests.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
#define MILLISECOND 1000000ull
#define READ_BYTES (1 << 18)
#define MESSAGE_BYTES 65536
#define LOOK_EVERY (5 * MILLISECOND)
#define KEEPALIVE_EVERY (10 * SECOND)
#define RETRY_MIN (100 * MILLISECOND) /* as the SDK: full jitter, doubled up to ten seconds */
#define RETRY_MAX (10 * SECOND)
#define QUIET (2 * SECOND)
#define HANDSHAKE_LIMIT (60 * SECOND)

static void *grow(void *old, size_t bytes) {
    void *found = realloc(old, bytes);
    if (!found) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return found;
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static uint64_t random_state = 0x9e3779b97f4a7c15ull;
static uint64_t random_u64(void) { /* xorshift64* */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 2685821657736338717ull;
}

/* --- histograms: 1,024 to 2,047 steps for each power of two, so that a value is kept to better than 0.1 % --- */

#define STEPS 1024
#define POWERS 40
struct histogram {
    uint64_t count, max, counts[(POWERS + 2) * STEPS];
    double sum;
};

static int slot_of(uint64_t value) {
    if (value < 2 * STEPS) return value;
    int shift = 63 - __builtin_clzll(value) - 10;
    if (shift > POWERS) return (POWERS + 2) * STEPS - 1;
    return shift * STEPS + (value >> shift);
}

/* The middle of a slot. */
static double value_of(int slot) {
    if (slot < 2 * STEPS) return slot;
    int shift = slot / STEPS - 1;
    return ((double)(slot - shift * STEPS) + 0.5) * (double)(1ull << shift) - 0.5;
}

static void record(struct histogram *h, uint64_t value) {
    h->counts[slot_of(value)]++;
    h->count++;
    h->sum += value;
    if (value > h->max) h->max = value;
}

/* The smallest kept value that at least this share of all values does not exceed. */
static double quantile(const struct histogram *h, double share) {
    uint64_t rank = (uint64_t)(share * h->count + 0.999999999), seen = 0;
    if (rank < 1) rank = 1;
    if (rank >= h->count) return h->max;
    for (int slot = 0; slot < (POWERS + 2) * STEPS; slot++)
        if ((seen += h->counts[slot]) >= rank) {
            double value = value_of(slot);
            return value < h->max ? value : h->max;
        }
    return h->max;
}

static const double SHARES[] = {0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1};

/* {"count", "mean", "p50", "p99", "p99_9", "max", "curve": [[share, value], …]}; values divided by `unit`. */
static void print_histogram(const char *name, const struct histogram *h, double unit) {
    printf("\"%s\":{\"count\":%lu", name, h->count);
    if (h->count) {
        printf(",\"mean\":%.6g,\"p50\":%.6g,\"p99\":%.6g,\"p99_9\":%.6g,\"max\":%.6g,\"curve\":[", h->sum / h->count / unit,
               quantile(h, .5) / unit, quantile(h, .99) / unit, quantile(h, .999) / unit, h->max / unit);
        for (size_t i = 0; i < sizeof SHARES / sizeof *SHARES; i++)
            printf("%s[%g,%.6g]", i ? "," : "", SHARES[i], quantile(h, SHARES[i]) / unit);
        putchar(']');
    }
    putchar('}');
}

/* --- channels, clients, groups --- */

struct channel {
    uint32_t stored; /* messages whose senders have had them back */
    char epoch[40];
};

struct name { /* channels of one beginning: conversation:own0, conversation:own1, … */
    char text[64];
    int length, count;
    struct channel *channels;
};

struct join { /* a group's clients subscribe to channels of this name */
    int name, share, per, start;
};

struct sub {
    uint32_t number, received, goal;
    uint64_t seq;     /* the last one; of the server's own counting */
    uint64_t id_ms;   /* the event's id, where the server has ids */
    uint32_t id_count;
};

enum state { OFF, WAITING, QUEUED, CONNECTING, UPGRADING, ENTERING, LIVE };

struct client {
    int fd, id, index, node, state, ready, behind, attempts, is_returning, step, sends_left, is_blocked;
    uint32_t sent;
    struct group *group;
    struct sub *subs;
    char *in, *out;
    size_t in_length, in_room, out_length;
    uint64_t due, opened_at, lost_at, heard_at;
    char session[64], place[64]; /* the server's names for the session, and for the last event in it */
    uint64_t offset, ordinal;    /* the same in numbers: of the whole log, and of what this connection was sent */
    char *part;                  /* the beginning of a protocol line that frames cut in two */
    size_t part_length;
};

struct group {
    char name[24];
    int count, joins_count, subs_count, parallel, under_way, live, is_kept, nodes_count, nodes[8], queue_next;
    struct join joins[8];
    struct client *clients;
    uint64_t published, returned; /* since the beginning */
    uint64_t deliveries, round_trips, holes, duplicates, gaps, failed, lost, back, bytes;
    uint64_t jitter_every, jitter_away;
    /* publishing */
    int every, window, publish_in, is_sending;
    uint64_t pace_gap, pace_due;
    int pace_next;
    uint64_t sends_open;
    struct histogram delivery, round_trip, handshake, replay, away;
};

struct dialect {
    const char *name, *path, *keepalive;
    int opcode;
    size_t (*enter)(struct client *, char *out);
    size_t (*publish)(struct client *, int name, uint32_t number, const char *text, size_t length, char *out);
    void (*message)(struct client *, char *text, size_t length);
};

static struct name names[16];
static int names_count;
static struct group *groups[16];
static int groups_count;
static struct client **clients; /* by id */
static int clients_count;
static char **tokens;
static int tokens_count;
static const struct dialect *dialect;
static int epoll_fd, timer_fd;
static char read_buffer[READ_BYTES];
static uint64_t read_at; /* the time of the read whose bytes are being looked at */
static int filler_bytes = 48;
static char run_name[24];
static char problem[400]; /* the first one */

static void note_problem(const char *format, ...) {
    if (problem[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
}

static struct channel *channel_at(int name, uint32_t number) {
    struct name *n = &names[name];
    if ((int)number >= n->count) {
        int count = (number + 1) * 2;
        n->channels = grow(n->channels, count * sizeof *n->channels);
        memset(n->channels + n->count, 0, (count - n->count) * sizeof *n->channels);
        n->count = count;
    }
    return &n->channels[number];
}

static struct sub *sub_of(struct client *c, int name, uint32_t number) {
    for (int i = 0; i < c->group->joins_count; i++) {
        struct join *j = &c->group->joins[i];
        if (j->name != name) continue;
        int at = j->per > 1 ? (int)number - c->index * j->per : 0;
        if (at < 0 || at >= j->per || c->subs[j->start + at].number != number) return NULL;
        return &c->subs[j->start + at];
    }
    return NULL;
}

static int name_of_sub(struct client *c, struct sub *s) {
    for (int i = c->group->joins_count - 1; i >= 0; i--)
        if (s - c->subs >= c->group->joins[i].start) return c->group->joins[i].name;
    return 0;
}

/* The sub of a channel's full name. */
static struct sub *sub_named(struct client *c, const char *text, int *name) {
    for (int i = 0; i < names_count; i++)
        if (!strncmp(text, names[i].text, names[i].length) && text[names[i].length] >= '0' && text[names[i].length] <= '9') {
            *name = i;
            return sub_of(c, i, strtoul(text + names[i].length, NULL, 10));
        }
    return NULL;
}

/* --- sending --- */

static void watch(struct client *c, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, operation, c->fd, &event);
}

static void lose(struct client *c, const char *why);

static void write_bytes(struct client *c, const char *bytes, size_t length) {
    size_t done = 0;
    if (!c->out_length) {
        ssize_t n = write(c->fd, bytes, length);
        if (n < 0 && errno != EAGAIN) return; /* the read tells */
        done = n < 0 ? 0 : n;
    }
    if (done == length) return;
    c->out = grow(c->out, c->out_length + length - done);
    memcpy(c->out + c->out_length, bytes + done, length - done);
    c->out_length += length - done;
    watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
}

static void write_rest(struct client *c) {
    ssize_t n = write(c->fd, c->out, c->out_length);
    if (n <= 0) return;
    memmove(c->out, c->out + n, c->out_length - n);
    c->out_length -= n;
    if (!c->out_length) watch(c, EPOLLIN, EPOLL_CTL_MOD);
}

static void send_frame(struct client *c, int opcode, const char *text, size_t length) {
    static unsigned char frame[MESSAGE_BYTES + 16];
    size_t at = 0;
    if (length > MESSAGE_BYTES) {
        note_problem("a message of %zu bytes is larger than the generator sends", length);
        return;
    }
    frame[at++] = 0x80 | opcode;
    if (length < 126) {
        frame[at++] = 0x80 | length;
    } else {
        frame[at++] = 0x80 | 126;
        frame[at++] = length >> 8;
        frame[at++] = length & 255;
    }
    uint32_t mask = random_u64();
    memcpy(frame + at, &mask, 4);
    const unsigned char *m = frame + at;
    at += 4;
    for (size_t i = 0; i < length; i++) frame[at + i] = text[i] ^ m[i & 3];
    write_bytes(c, (char *)frame, at + length);
}

static void send_text(struct client *c, const char *text, size_t length) { send_frame(c, dialect->opcode, text, length); }

static void publish(struct client *c, uint64_t due) {
    static char text[4096], message[MESSAGE_BYTES];
    struct join *j = &c->group->joins[c->group->publish_in];
    struct sub *s = &c->subs[j->start + (j->per > 1 ? c->sent % j->per : 0)];
    int length = sprintf(text, "~%d.%u.%d.%lu~", j->name, s->number, c->id, due);
    for (int i = 0; i < filler_bytes && length < (int)sizeof text - 1; i++) text[length++] = "hello "[i % 6];
    text[length] = 0;
    c->sent++;
    c->group->published++;
    send_text(c, message, dialect->publish(c, j->name, s->number, text, length, message));
}

static void publish_next(struct client *c) {
    if (!c->group->is_sending) return;
    if (c->sends_left == 0) return;
    if (c->sends_left > 0) c->sends_left--;
    publish(c, now_ns());
}

/* --- what arrives --- */

static void note_back(struct client *c) {
    struct group *g = c->group;
    c->is_returning = 0;
    g->back++;
    record(&g->replay, now_ns() - c->opened_at);
    if (c->lost_at) record(&g->away, now_ns() - c->lost_at);
    c->lost_at = 0;
}

static void note_event(struct client *c, int name, uint32_t number, int publisher, uint64_t due, uint64_t seq) {
    struct group *g = c->group;
    struct sub *s = sub_of(c, name, number);
    if (!s) return;
    if (seq) {
        if (seq <= s->seq) {
            g->duplicates++;
            return;
        }
        if (s->seq && seq != s->seq + 1) g->holes += seq - s->seq - 1;
        s->seq = seq;
    }
    g->deliveries++;
    s->received++;
    record(&g->delivery, read_at > due ? read_at - due : 0);
    if (publisher == c->id) {
        struct channel *channel = channel_at(name, number);
        channel->stored++;
        g->round_trips++;
        g->returned++;
        record(&g->round_trip, read_at > due ? read_at - due : 0);
        if (g->sends_open) g->sends_open--;
        publish_next(c);
    }
    if (c->is_returning && s->received == s->goal && --c->behind == 0 && c->state == LIVE) note_back(c);
}

static void note_ready(struct client *c) {
    struct group *g = c->group;
    if (c->state == LIVE) return;
    c->state = LIVE;
    c->attempts = 0;
    g->under_way--;
    g->live++;
    record(&g->handshake, read_at - c->opened_at);
    if (c->is_returning && c->behind <= 0) note_back(c);
    if (g->jitter_every) c->due = read_at + g->jitter_every - random_u64() % (g->jitter_every / 10 + 1);
}

/* The server says that it cannot tell everything this client missed: it is back, but not whole. */
static void note_gap(struct client *c) {
    c->group->gaps++;
    if (c->is_returning) {
        c->is_returning = 0;
        c->lost_at = 0;
    }
}

static const char *skip_number(const char *p, uint64_t *value) {
    uint64_t found = 0;
    while (*p >= '0' && *p <= '9') found = found * 10 + (*p++ - '0');
    *value = found;
    return p;
}

/* The number behind the next `key` before `end`; 0 where there is none. */
static uint64_t number_behind(const char *from, const char *end, const char *key) {
    const char *found = memmem(from, end - from, key, strlen(key));
    uint64_t value = 0;
    if (found) skip_number(found + strlen(key), &value);
    return value;
}

static int text_behind(const char *from, const char *end, const char *key, char *out, size_t room) {
    const char *found = memmem(from, end - from, key, strlen(key));
    size_t n = 0;
    if (!found) return 0;
    for (found += strlen(key); found < end && *found != '"' && n + 1 < room; found++) out[n++] = *found;
    out[n] = 0;
    return 1;
}

/* Every event between `p` and `end`. `key` stands before the server's number: ahead of the mark, or behind it. */
static void find_events(struct client *c, const char *p, const char *end, const char *key, int is_ahead) {
    const char *begin = p, *mark;
    while ((mark = memchr(p, '~', end - p))) {
        uint64_t name = 0, number = 0, publisher = 0, due = 0, seq = 0;
        const char *q = skip_number(mark + 1, &name);
        if (*q == '.') q = skip_number(q + 1, &number);
        if (*q == '.') q = skip_number(q + 1, &publisher);
        if (*q == '.') q = skip_number(q + 1, &due);
        p = q < end ? q + 1 : end;
        if (*q != '~' || name >= (uint64_t)names_count) continue;
        if (key && is_ahead) {
            seq = number_behind(begin, mark, key);
        } else if (key) {
            const char *next = memchr(p, '~', end - p);
            seq = number_behind(p, next ? next : end, key);
        }
        struct sub *s = key && is_ahead ? sub_of(c, name, number) : NULL;
        if (s && seq > s->seq) { /* the id of the event is the first thing in it */
            const char *id = memmem(begin, mark - begin, "{\"id\":\"", 7);
            uint64_t count = 0;
            if (id && *(id = skip_number(id + 7, &s->id_ms)) == '-') skip_number(id + 1, &count);
            s->id_count = count;
        }
        note_event(c, name, number, publisher, due, seq);
        begin = p;
    }
}

/* --- dialects --- */

static size_t channel_text(char *out, int name, uint32_t number) { return sprintf(out, "%s%u", names[name].text, number); }

#define FOR_SUBS(c, s, name) \
    for (int at_##s = 0, name; at_##s < (c)->group->subs_count; at_##s++) \
        if (struct_sub_of(c, at_##s, &s, &name))

static int struct_sub_of(struct client *c, int at, struct sub **s, int *name) {
    *s = &c->subs[at];
    *name = name_of_sub(c, *s);
    return 1;
}

/* this hub: docs/protocol.md */

static size_t hub_enter(struct client *c, char *out) {
    struct sub *s;
    char *p = out;
    p += sprintf(p, "{\"type\":\"connection.%s\",\"id\":\"i\",\"payload\":{\"token\":\"%s\",\"versions\":[1],\"capabilities\":[\"batch\",\"live_state\"]",
                 c->is_returning ? "reconnect" : "init", tokens[c->id % tokens_count]);
    if (c->is_returning && c->session[0]) p += sprintf(p, ",\"session_id\":\"%s\"", c->session);
    p += sprintf(p, c->is_returning ? ",\"cursors\":{" : ",\"channels\":[");
    char *begin = p;
    FOR_SUBS(c, s, name) {
        if (p > begin) *p++ = ',';
        *p++ = '"';
        p += channel_text(p, name, s->number);
        *p++ = '"';
        if (!c->is_returning) continue;
        if (s->id_ms)
            p += sprintf(p, ":{\"after\":\"%lu-%u\",\"seq\":%lu", s->id_ms, s->id_count, s->seq);
        else
            p += sprintf(p, ":{\"after\":\"0\",\"seq\":%lu", s->seq);
        p += sprintf(p, ",\"epoch\":\"%s\"}", channel_at(name, s->number)->epoch);
    }
    *p++ = c->is_returning ? '}' : ']';
    p += sprintf(p, "}}");
    return p - out;
}

static size_t hub_publish(struct client *c, int name, uint32_t number, const char *text, size_t length, char *out) {
    char *p = out + sprintf(out, "{\"type\":\"chat.message\",\"id\":\"%s-%d-%u\",\"channel\":\"", run_name, c->id, c->sent);
    p += channel_text(p, name, number);
    p += sprintf(p, "\",\"payload\":{\"text\":\"%.*s\"}}", (int)length, text);
    return p - out;
}

static int begins(const char *text, size_t length, const char *with) {
    return length >= strlen(with) && !memcmp(text, with, strlen(with));
}

static void hub_message(struct client *c, char *text, size_t length) {
    char *end = text + length;
    if (begins(text, length, "{\"id\":\"") || begins(text, length, "[{\"id\":\"")) {
        find_events(c, text, end, "\"seq\":", 1);
    } else if (begins(text, length, "{\"type\":\"channel.subscribed\"")) {
        char channel[160], epoch[40];
        int name;
        struct sub *s;
        if (!text_behind(text, end, "\"channel\":\"", channel, sizeof channel) || !(s = sub_named(c, channel, &name))) return;
        if (text_behind(text, end, "\"epoch\":\"", epoch, sizeof epoch)) strcpy(channel_at(name, s->number)->epoch, epoch);
        char *gap = memmem(text, length, "\"gap\":", 6);
        if (gap && strncmp(gap + 6, "null", 4)) note_gap(c);
        if (!c->is_returning) {
            char *head = memmem(text, length, "\"head\":{\"id\":\"", 14);
            uint64_t count = 0;
            if (head) {
                const char *q = skip_number(head + 14, &s->id_ms);
                if (*q == '-') skip_number(q + 1, &count);
                s->id_count = count;
                s->seq = number_behind(head, end, "\"seq\":");
            }
            s->received = channel_at(name, s->number)->stored;
            if (++c->ready == c->group->subs_count) note_ready(c);
        }
    } else if (begins(text, length, "{\"type\":\"channel.resumed\"")) {
        char channel[160];
        int name;
        text_behind(text, end, "\"channel\":\"", channel, sizeof channel);
        if (sub_named(c, channel, &name) && ++c->ready == c->group->subs_count) note_ready(c);
    } else if (begins(text, length, "{\"type\":\"connection.ack\"")) {
        text_behind(text, end, "\"session_id\":\"", c->session, sizeof c->session);
        if (!c->group->subs_count) note_ready(c);
    } else if (begins(text, length, "{\"type\":\"connection.error\"")) {
        note_problem("the hub refused: %.*s", length > 300 ? 300 : (int)length, text);
        c->group->failed++;
    }
}

/* Centrifugo 6, JSON */

static size_t centrifugo_enter(struct client *c, char *out) {
    struct sub *s;
    char *p = out + sprintf(out, "{\"id\":1,\"connect\":{\"token\":\"%s\"}}", tokens[c->id % tokens_count]);
    int id = 2;
    FOR_SUBS(c, s, name) {
        p += sprintf(p, "\n{\"id\":%d,\"subscribe\":{\"channel\":\"", id++);
        p += channel_text(p, name, s->number);
        *p++ = '"';
        if (c->is_returning)
            p += sprintf(p, ",\"recover\":true,\"epoch\":\"%s\",\"offset\":%lu", channel_at(name, s->number)->epoch, s->seq);
        p += sprintf(p, "}}");
    }
    return p - out;
}

static size_t centrifugo_publish(struct client *c, int name, uint32_t number, const char *text, size_t length, char *out) {
    char *p = out + sprintf(out, "{\"id\":1%u,\"publish\":{\"channel\":\"", c->sent + 1000);
    p += channel_text(p, name, number);
    p += sprintf(p, "\",\"data\":{\"text\":\"%.*s\"}}}", (int)length, text);
    return p - out;
}

static void centrifugo_line(struct client *c, char *text, char *end) {
    size_t length = end - text;
    if (begins(text, length, "{\"push\":")) {
        find_events(c, text, end, "\"offset\":", 0);
    } else if (length == 2) {
        send_text(c, "{}", 2); /* a ping */
    } else if (memmem(text, length > 40 ? 40 : length, "\"subscribe\":{", 13)) {
        int at = number_behind(text, end, "{\"id\":") - 2, name;
        struct sub *s;
        char epoch[40];
        if (at < 0 || at >= c->group->subs_count) return;
        struct_sub_of(c, at, &s, &name);
        struct channel *channel = channel_at(name, s->number);
        if (text_behind(text, end, "\"epoch\":\"", epoch, sizeof epoch)) strcpy(channel->epoch, epoch);
        if (!c->is_returning) {
            s->seq = number_behind(text, end, "\"offset\":");
            s->received = channel->stored;
        } else if (!memmem(text, length, "\"recovered\":true", 16)) {
            note_gap(c);
        }
        find_events(c, text, end, "\"offset\":", 0);
        if (++c->ready == c->group->subs_count) note_ready(c);
    } else if (memmem(text, length, "\"error\":{", 9)) {
        note_problem("Centrifugo refused: %.*s", length > 300 ? 300 : (int)length, text);
        c->group->failed++;
    } else if (!c->group->subs_count && memmem(text, length, "\"connect\":{", 11)) {
        note_ready(c);
    }
}

static void centrifugo_message(struct client *c, char *text, size_t length) {
    char *end = text + length;
    while (text < end) {
        char *line = memchr(text, '\n', end - text);
        if (!line) line = end;
        if (line > text) centrifugo_line(c, text, line);
        text = line + 1;
    }
}

/* Every subscription begins here: what was stored before is not expected. */
static void begin_subs(struct client *c) {
    struct sub *s;
    if (!c->is_returning)
        FOR_SUBS(c, s, name) s->received = channel_at(name, s->number)->stored;
}

static size_t channel_list(struct client *c, char *out) {
    struct sub *s;
    char *p = out;
    FOR_SUBS(c, s, name) {
        if (p > out) *p++ = ',';
        *p++ = '"';
        p += channel_text(p, name, s->number);
        *p++ = '"';
    }
    return p - out;
}

/* NATS with JetStream: a consumer for each client, which delivers the stream's messages of its channels */

static size_t nats_enter(struct client *c, char *out) {
    char body[MESSAGE_BYTES / 2], policy[96];
    if (!c->is_returning) strcpy(policy, "\"deliver_policy\":\"new\"");
    else if (!c->offset) strcpy(policy, "\"deliver_policy\":\"all\"");
    else sprintf(policy, "\"deliver_policy\":\"by_start_sequence\",\"opt_start_seq\":%lu", c->offset + 1);
    sprintf(c->session, "%s-%d-%lx", run_name, c->id, random_u64() & 0xffffff);
    c->ordinal = c->part_length = 0;
    char *p = body + sprintf(body, "{\"stream_name\":\"bench\",\"action\":\"create\",\"config\":{\"name\":\"%s\",\"deliver_subject\":\"%s\","
                             "\"ack_policy\":\"none\",\"max_deliver\":1,\"mem_storage\":true,\"num_replicas\":1,"
                             "\"inactive_threshold\":60000000000,%s,\"filter_subjects\":[", c->session, c->session, policy);
    p += channel_list(c, p);
    p += sprintf(p, "]}}");
    return sprintf(out, "CONNECT {\"verbose\":false,\"pedantic\":false,\"auth_token\":\"bench\"}\r\nSUB %s 1\r\nSUB in.%d 2\r\n"
                   "PUB $JS.API.CONSUMER.CREATE.bench.%s in.%d %zu\r\n%s\r\n", c->session, c->id, c->session, c->id, (size_t)(p - body), body);
}

static size_t nats_publish(struct client *c, int name, uint32_t number, const char *text, size_t length, char *out) {
    char *p = out + sprintf(out, "PUB ");
    p += channel_text(p, name, number);
    p += sprintf(p, " in.%d %zu\r\n{\"text\":\"%.*s\"}\r\n", c->id, length + 11, (int)length, text);
    return p - out;
}

/* One line and its payload; the bytes it takes, or 0 while not all of it is there. */
static size_t nats_line(struct client *c, char *text, char *end) {
    char *line = memmem(text, end - text, "\r\n", 2), *size;
    if (!line) return 0;
    size_t length = line - text;
    if (begins(text, length, "PING")) {
        send_text(c, "PONG\r\n", 6);
    } else if (begins(text, length, "-ERR")) {
        note_problem("NATS refused: %.*s", (int)length, text);
        c->group->failed++;
    }
    if (!begins(text, length, "MSG ") && !begins(text, length, "HMSG ")) return length + 2;
    size = memrchr(text, ' ', length);
    size_t bytes = strtoul(size + 1, NULL, 10);
    if ((size_t)(end - line) < bytes + 4) return 0;
    char *ack = memmem(text, length, "$JS.ACK.", 8);
    if (ack) { /* $JS.ACK.stream.consumer.delivered.position.ordinal.time.pending */
        uint64_t ordinal = 0;
        for (int dots = 0; dots < 5; ack++) dots += *ack == '.';
        ack = (char *)skip_number(ack, &c->offset);
        skip_number(ack + 1, &ordinal);
        if (ordinal > c->ordinal + 1) c->group->holes += ordinal - c->ordinal - 1;
        c->ordinal = ordinal;
        find_events(c, line + 2, line + 2 + bytes, NULL, 0);
    } else if (c->state == ENTERING && memmem(line, bytes, "\"delivered\"", 11)) {
        begin_subs(c);
        note_ready(c);
    } else if (memmem(line, bytes, "\"error\"", 7)) {
        note_problem("NATS refused: %.*s", bytes > 300 ? 300 : (int)bytes, line + 2);
        c->group->failed++;
    }
    return length + 2 + bytes + 2;
}

static void nats_message(struct client *c, char *text, size_t length) {
    if (c->part_length) {
        c->part = grow(c->part, c->part_length + length + 1);
        memcpy(c->part + c->part_length, text, length);
        text = c->part;
        length += c->part_length;
    }
    char *end = text + length;
    for (size_t used; text < end && c->fd >= 0 && (used = nats_line(c, text, end)); text += used) {}
    if (text < end && !c->part_length) c->part = grow(c->part, end - text + 1);
    if (text < end) memmove(c->part, text, end - text);
    c->part_length = end - text;
}

/* Socket.IO 4 with connection state recovery */

static size_t socketio_enter(struct client *c, char *out) {
    (void)c, (void)out;
    return 0; /* the server speaks first */
}

static void socketio_subscribe(struct client *c) {
    static char message[MESSAGE_BYTES];
    char *p = message + sprintf(message, "420[\"sub\",[");
    p += channel_list(c, p);
    p += sprintf(p, "]]");
    send_text(c, message, p - message);
}

static size_t socketio_publish(struct client *c, int name, uint32_t number, const char *text, size_t length, char *out) {
    char *p = out + sprintf(out, "42%u[\"pub\",{\"channel\":\"", c->sent);
    p += channel_text(p, name, number);
    p += sprintf(p, "\",\"text\":\"%.*s\"}]", (int)length, text);
    return p - out;
}

static void socketio_message(struct client *c, char *text, size_t length) {
    char *end = text + length, session[64], hello[4096];
    if (begins(text, length, "0{")) {
        int n = sprintf(hello, "40{\"token\":\"%s\"", tokens[c->id % tokens_count]);
        if (c->is_returning) n += sprintf(hello + n, ",\"pid\":\"%s\",\"offset\":\"%s\"", c->session, c->place);
        n += sprintf(hello + n, "}");
        send_text(c, hello, n);
    } else if (begins(text, length, "40{")) {
        int is_known = text_behind(text, end, "\"pid\":\"", session, sizeof session) && !strcmp(session, c->session);
        strcpy(c->session, session);
        if (c->is_returning && is_known) {
            note_ready(c);
        } else {
            if (c->is_returning) note_gap(c);
            socketio_subscribe(c);
        }
    } else if (begins(text, length, "430") && c->state == ENTERING) {
        begin_subs(c);
        note_ready(c);
    } else if (begins(text, length, "42[")) {
        char *place = memrchr(text, ',', length);
        if (place && place[1] == '"') text_behind(place, end, ",\"", c->place, sizeof c->place);
        find_events(c, text, end, NULL, 0);
    } else if (length == 1 && *text == '2') {
        send_text(c, "3", 1);
    } else if (begins(text, length, "44")) {
        note_problem("Socket.IO refused: %.*s", (int)length, text);
        c->group->failed++;
    }
}

/* the plain hub: FastAPI and Redis PUB/SUB */

static size_t plain_enter(struct client *c, char *out) {
    char *p = out + sprintf(out, "{\"token\":\"%s\",\"channels\":[", tokens[c->id % tokens_count]);
    p += channel_list(c, p);
    p += sprintf(p, "]}");
    return p - out;
}

static size_t plain_publish(struct client *c, int name, uint32_t number, const char *text, size_t length, char *out) {
    char *p = out + sprintf(out, "{\"id\":\"%d-%u\",\"channel\":\"", c->id, c->sent);
    p += channel_text(p, name, number);
    p += sprintf(p, "\",\"text\":\"%.*s\"}", (int)length, text);
    return p - out;
}

static void plain_message(struct client *c, char *text, size_t length) {
    if (begins(text, length, "{\"subscribed\"")) {
        begin_subs(c);
        note_ready(c);
    } else {
        find_events(c, text, text + length, NULL, 0);
    }
}

static const struct dialect DIALECTS[] = {
    {"hub", "/ws", "{\"type\":\"connection.heartbeat\",\"payload\":{}}", 1, hub_enter, hub_publish, hub_message},
    {"centrifugo", "/connection/websocket", NULL, 1, centrifugo_enter, centrifugo_publish, centrifugo_message},
    {"nats", "/", NULL, 2, nats_enter, nats_publish, nats_message},
    {"socketio", "/socket.io/?EIO=4&transport=websocket", NULL, 1, socketio_enter, socketio_publish, socketio_message},
    {"plain", "/ws", NULL, 1, plain_enter, plain_publish, plain_message},
};

/* --- connections --- */

static void take_frames(struct client *c, char *p, char *end) {
    while (end - p >= 2 && c->fd >= 0) {
        unsigned char *f = (unsigned char *)p;
        uint64_t length = f[1] & 127;
        size_t head = 2;
        if (length == 126) {
            if (end - p < 4) break;
            length = f[2] << 8 | f[3];
            head = 4;
        } else if (length == 127) {
            if (end - p < 10) break;
            length = 0;
            for (int i = 2; i < 10; i++) length = length << 8 | f[i];
            head = 10;
        }
        if ((uint64_t)(end - p) < head + length) break;
        char *payload = p + head;
        switch (f[0] & 15) {
            case 8:
                note_problem("closed by the server with %d: %.*s", length > 1 ? (unsigned char)payload[0] << 8 | (unsigned char)payload[1] : 0,
                             length > 2 ? (int)length - 2 : 0, payload + 2);
                lose(c, NULL);
                return;
            case 9: send_frame(c, 10, payload, length); break;
            case 10: break;
            default: dialect->message(c, payload, length);
        }
        p += head + length;
    }
    if (c->fd < 0) return;
    size_t rest = end - p;
    if (rest && p != c->in) {
        if (rest + 1 > c->in_room) {
            char *fresh = malloc(c->in_room = rest * 2 + 1024);
            memcpy(fresh, p, rest);
            free(c->in);
            c->in = fresh;
        } else {
            memmove(c->in, p, rest);
        }
    }
    c->in_length = rest;
    if (!rest && c->in_room > 65536) {
        free(c->in);
        c->in = NULL;
        c->in_room = 0;
    }
}

static void take_upgrade(struct client *c, char *p, char *end) {
    char *body = memmem(p, end - p, "\r\n\r\n", 4);
    if (!body) {
        note_problem("the answer to the upgrade came in parts");
        lose(c, "the answer to the upgrade came in parts");
        return;
    }
    if (!begins(p, end - p, "HTTP/1.1 101")) {
        note_problem("the upgrade was refused: %.60s", p);
        lose(c, "the upgrade was refused");
        return;
    }
    static char message[MESSAGE_BYTES];
    c->state = ENTERING;
    size_t length = dialect->enter(c, message);
    if (length) send_text(c, message, length);
    if (c->fd >= 0) take_frames(c, body + 4, end);
}

static void readable(struct client *c) {
    ssize_t got = read(c->fd, read_buffer, READ_BYTES - 1);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) lose(c, got ? strerror(errno) : "closed by the server");
        return;
    }
    read_at = c->heard_at = now_ns();
    c->group->bytes += got;
    if (c->state == UPGRADING) {
        read_buffer[got] = 0;
        take_upgrade(c, read_buffer, read_buffer + got);
    } else if (c->in_length) {
        if (c->in_length + got + 1 > c->in_room) c->in = grow(c->in, c->in_room = (c->in_length + got) * 2 + 1);
        memcpy(c->in + c->in_length, read_buffer, got);
        c->in_length += got;
        c->in[c->in_length] = 0;
        take_frames(c, c->in, c->in + c->in_length);
    } else {
        read_buffer[got] = 0;
        take_frames(c, read_buffer, read_buffer + got);
    }
}

static void shut(struct client *c, int is_reset) {
    if (c->fd < 0) return;
    if (is_reset) {
        struct linger now = {1, 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    close(c->fd);
    c->fd = -1;
    if (c->state == LIVE) c->group->live--;
    else if (c->state >= CONNECTING) c->group->under_way--;
    c->in_length = c->out_length = 0;
    free(c->out);
    c->out = NULL;
}

static void wait_for(struct client *c, uint64_t pause) {
    c->state = WAITING;
    c->due = now_ns() + pause;
}

/* Ends a connection that nobody here wanted to end. */
static void lose(struct client *c, const char *why) {
    struct group *g = c->group;
    int was_live = c->state == LIVE;
    shut(c, 1);
    if (was_live) {
        g->lost++;
        if (!c->lost_at) c->lost_at = now_ns();
        c->is_returning = 1;
    } else {
        g->failed++;
        if (why && !g->is_kept) note_problem("client %d of %s: %s", c->index, g->name, why);
    }
    c->state = OFF;
    if (g->is_kept) {
        uint64_t limit = RETRY_MIN << (c->attempts < 7 ? c->attempts : 7);
        c->attempts++;
        c->node++;
        wait_for(c, random_u64() % (limit < RETRY_MAX ? limit : RETRY_MAX));
    }
}

static void open_client(struct client *c) {
    struct group *g = c->group;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(g->nodes[c->node % g->nodes_count])};
    int one = 1;
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    c->ready = c->step = c->behind = 0;
    c->opened_at = c->heard_at = now_ns();
    if (c->is_returning) {
        for (int i = 0; i < g->subs_count; i++) {
            struct sub *s = &c->subs[i];
            s->goal = channel_at(name_of_sub(c, s), s->number)->stored;
            if (s->received < s->goal) c->behind++;
        }
    }
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    g->under_way++;
    c->state = CONNECTING;
    if (c->fd < 0) {
        note_problem("no more sockets: %s", strerror(errno));
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
    if (connect(c->fd, (void *)&address, sizeof address) < 0 && errno != EINPROGRESS) lose(c, strerror(errno));
}

static void connected(struct client *c) {
    int error = 0;
    socklen_t length = sizeof error;
    char request[512];
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        lose(c, strerror(error));
        return;
    }
    c->state = UPGRADING;
    watch(c, EPOLLIN, EPOLL_CTL_MOD);
    int n = sprintf(request,
                    "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                    dialect->path);
    write_bytes(c, request, n);
}

static void take_event(struct epoll_event *event) {
    struct client *c = event->data.ptr;
    if (c->fd < 0) return;
    if (c->state == CONNECTING) {
        connected(c);
        return;
    }
    if (event->events & EPOLLOUT && c->out_length) write_rest(c);
    if (event->events & ~EPOLLOUT) readable(c);
}

/* --- time --- */

static uint64_t looked_at;

static void look_at(struct client *c, uint64_t now) {
    struct group *g = c->group;
    if (c->state == WAITING && now >= c->due) {
        if (g->under_way < g->parallel) open_client(c);
    } else if (c->state == LIVE && g->jitter_every && now >= c->due) {
        c->lost_at = now;
        c->is_returning = 1;
        shut(c, 1);
        g->lost++;
        wait_for(c, g->jitter_away);
    } else if (c->state == LIVE && dialect->keepalive && now - c->heard_at > KEEPALIVE_EVERY) {
        c->heard_at = now;
        send_text(c, dialect->keepalive, strlen(dialect->keepalive));
    } else if (c->state >= CONNECTING && c->state < LIVE && now - c->opened_at > HANDSHAKE_LIMIT) {
        lose(c, "the handshake took longer than a minute");
    }
}

static void pace(struct group *g, uint64_t now) {
    int publishers = (g->count + g->every - 1) / g->every;
    while (g->pace_gap && g->pace_due <= now) {
        struct client *c = &g->clients[(g->pace_next++ % publishers) * g->every];
        if (c->state == LIVE) publish(c, g->pace_due);
        g->pace_due += g->pace_gap;
    }
}

static void look(void) {
    uint64_t now = now_ns(), next;
    for (int i = 0; i < groups_count; i++) pace(groups[i], now);
    if (now >= looked_at + LOOK_EVERY) {
        looked_at = now;
        for (int i = 0; i < groups_count; i++)
            for (int j = 0; j < groups[i]->count; j++) look_at(&groups[i]->clients[j], now);
    }
    next = looked_at + LOOK_EVERY;
    for (int i = 0; i < groups_count; i++)
        if (groups[i]->pace_gap && groups[i]->pace_due < next) next = groups[i]->pace_due;
    struct itimerspec at = {.it_value = {next / SECOND, next % SECOND}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/* --- commands --- */

static char line[1 << 16];
static size_t line_length;
static int is_over;
static uint64_t began_at, deadline, told_at, quiet_from;
static int (*is_done)(struct group *); /* the wait of the command under way */
static struct group *waited;
static uint64_t deliveries_before, missing_at;

static const char *option(const char *name) {
    static char found[4096];
    char key[32];
    int n = sprintf(key, " %s=", name);
    char *at = strstr(line, key);
    if (!at) return NULL;
    size_t length = strcspn(at + n, " ");
    snprintf(found, sizeof found, "%.*s", (int)length, at + n);
    return found;
}

static double number(const char *name, double otherwise) {
    const char *text = option(name);
    return text ? atof(text) : otherwise;
}

static struct group *group_named(const char *name) {
    for (int i = 0; i < groups_count; i++)
        if (name && !strcmp(groups[i]->name, name)) return groups[i];
    return NULL;
}

static int name_id(const char *text) {
    for (int i = 0; i < names_count; i++)
        if (!strcmp(names[i].text, text)) return i;
    snprintf(names[names_count].text, sizeof names->text, "%s", text);
    names[names_count].length = strlen(text);
    return names_count++;
}

static void set_nodes(struct group *g, const char *text) {
    char copy[256];
    if (!text) return;
    snprintf(copy, sizeof copy, "%s", text);
    g->nodes_count = 0;
    for (char *port = strtok(copy, ","); port; port = strtok(NULL, ",")) g->nodes[g->nodes_count++ % 8] = atoi(port);
}

/* join=conversation:own/1,team:t/10,conversation:many*100: own0 for client 0, t0 for clients 0 to 9, many0 to many99 for client 0; /0 is one for all */
static void set_joins(struct group *g, const char *text) {
    char copy[1024];
    snprintf(copy, sizeof copy, "%s", text ? text : "");
    for (char *one = strtok(copy, ","); one; one = strtok(NULL, ",")) {
        struct join *j = &g->joins[g->joins_count++];
        char *mark = strpbrk(one, "/*");
        *j = (struct join){.share = 1, .per = 1, .start = g->subs_count};
        if (mark && *mark == '/') j->share = atoi(mark + 1);
        if (mark && *mark == '*') j->per = atoi(mark + 1);
        if (mark) *mark = 0;
        j->name = name_id(one);
        g->subs_count += j->per;
    }
}

static void make_group(void) {
    struct group *g = grow(NULL, sizeof *g);
    memset(g, 0, sizeof *g);
    snprintf(g->name, sizeof g->name, "%s", option("group"));
    g->count = number("count", 1);
    g->parallel = number("parallel", 64);
    g->is_kept = number("kept", 0);
    g->every = 1;
    g->nodes_count = 1;
    set_joins(g, option("join"));
    set_nodes(g, option("ports"));
    g->clients = grow(NULL, g->count * sizeof *g->clients);
    memset(g->clients, 0, g->count * sizeof *g->clients);
    clients = grow(clients, (clients_count + g->count) * sizeof *clients);
    for (int i = 0; i < g->count; i++) {
        struct client *c = &g->clients[i];
        c->fd = -1;
        c->index = i;
        c->node = i;
        c->id = clients_count;
        c->group = g;
        clients[clients_count++] = c;
        c->subs = grow(NULL, (g->subs_count + 1) * sizeof *c->subs);
        memset(c->subs, 0, (g->subs_count + 1) * sizeof *c->subs);
        for (int k = 0; k < g->joins_count; k++) {
            struct join *j = &g->joins[k];
            for (int n = 0; n < j->per; n++)
                c->subs[j->start + n].number = j->per > 1 ? (uint32_t)(i * j->per + n) : j->share ? (uint32_t)(i / j->share) : 0;
        }
        c->state = WAITING;
    }
    groups[groups_count++] = g;
    waited = g;
}

static int all_live(struct group *g) { return g->live == g->count || (!g->is_kept && g->live + (int)g->failed >= g->count); }

static int all_back(struct group *g) {
    if (g->live < g->count) return 0;
    for (int i = 0; i < g->count; i++)
        if (g->clients[i].is_returning) return 0;
    return 1;
}

static uint64_t missing_of(struct client *c) {
    uint64_t missing = 0;
    for (int k = 0; k < c->group->subs_count; k++) {
        struct sub *s = &c->subs[k];
        uint32_t stored = channel_at(name_of_sub(c, s), s->number)->stored;
        if (s->received < stored) missing += stored - s->received;
    }
    return missing;
}

static int time_over(struct group *g) {
    (void)g;
    return 0; /* the deadline ends it */
}

/* Everything that was sent has come back to its sender. */
static int all_sent(struct group *g) { return g->sends_open == 0; }

/* Everything has arrived everywhere, or nothing has for a while: what is still missing then does not come. */
static int is_quiet(struct group *g) {
    uint64_t count = 0, now = now_ns();
    int64_t under_way = 0;
    (void)g;
    for (int i = 0; i < groups_count; i++) {
        count += groups[i]->deliveries;
        under_way += groups[i]->published - groups[i]->returned;
    }
    if (count != deliveries_before) {
        deliveries_before = count;
        quiet_from = now;
    }
    if (now - quiet_from > QUIET) return 1;
    if (under_way || now < missing_at) return 0;
    missing_at = now + LOOK_EVERY;
    for (int i = 0; i < groups_count; i++)
        for (int j = 0; j < groups[i]->count; j++)
            if (groups[i]->clients[j].state == LIVE && missing_of(&groups[i]->clients[j])) return 0;
    return 1;
}

static void begin_sending(struct group *g) {
    g->every = number("every", g->every);
    g->window = number("window", 1);
    g->publish_in = number("in", 0);
    g->is_sending = 1;
    int count = number("count", -1);
    g->sends_open = 0;
    for (int i = 0; i < g->count; i += g->every) {
        g->clients[i].sends_left = count;
        g->sends_open += count > 0 ? count : 0;
    }
    for (int w = 0; w < g->window; w++)
        for (int i = 0; i < g->count; i += g->every)
            if (g->clients[i].state == LIVE) publish_next(&g->clients[i]);
}

static void begin_pace(struct group *g) {
    double rate = number("rate", 0);
    g->every = number("every", g->every);
    g->publish_in = number("in", 0);
    g->pace_gap = rate > 0 ? SECOND / rate : 0;
    g->pace_due = now_ns() + g->pace_gap;
}

static void cut(struct group *g) {
    uint64_t now = now_ns();
    for (int i = 0; i < g->count; i++) {
        struct client *c = &g->clients[i];
        c->lost_at = now;
        c->is_returning = 1;
        shut(c, 1);
        c->state = OFF;
    }
}

static void reopen(struct group *g) {
    uint64_t spread = number("spread_ms", 0) * MILLISECOND;
    set_nodes(g, option("ports"));
    g->parallel = number("parallel", g->parallel);
    g->is_kept = number("kept", g->is_kept);
    for (int i = 0; i < g->count; i++) {
        struct client *c = &g->clients[i];
        if (c->state == OFF) wait_for(c, spread ? random_u64() % spread : 0);
    }
}

static void begin_jitter(struct group *g) {
    uint64_t now = now_ns();
    g->jitter_every = number("every_s", 0) * SECOND;
    g->jitter_away = number("away_s", 2) * SECOND;
    for (int i = 0; g->jitter_every && i < g->count; i++)
        if (g->clients[i].state == LIVE) g->clients[i].due = now + random_u64() % g->jitter_every;
}

static void reset(struct group *g) {
    g->deliveries = g->round_trips = g->holes = g->duplicates = g->gaps = g->failed = g->lost = g->back = g->bytes = 0;
    memset(&g->delivery, 0, sizeof g->delivery);
    memset(&g->round_trip, 0, sizeof g->round_trip);
    memset(&g->handshake, 0, sizeof g->handshake);
    memset(&g->replay, 0, sizeof g->replay);
    memset(&g->away, 0, sizeof g->away);
}

static void read_tokens(const char *path) {
    FILE *file = fopen(path ? path : "", "r");
    char text[8192];
    while (file && fgets(text, sizeof text, file)) {
        text[strcspn(text, "\r\n")] = 0;
        tokens = grow(tokens, (tokens_count + 1) * sizeof *tokens);
        tokens[tokens_count++] = strdup(text);
    }
    if (file) fclose(file);
}

static void print_text(const char *text) {
    putchar('"');
    for (; *text; text++)
        if (*text == '"' || *text == '\\') printf("\\%c", *text);
        else if ((unsigned char)*text >= 32) putchar(*text);
    putchar('"');
}

/* What one group has seen since the last reset. */
static void print_group(struct group *g) {
    uint64_t expected = 0, received = 0, missing = 0, extra = 0;
    int served = 0;
    for (int i = 0; i < g->count; i++) {
        uint64_t any = 0;
        for (int k = 0; k < g->subs_count; k++) {
            struct sub *s = &g->clients[i].subs[k];
            uint32_t stored = channel_at(name_of_sub(&g->clients[i], s), s->number)->stored;
            expected += stored;
            received += s->received < stored ? s->received : stored;
            extra += s->received > stored ? s->received - stored : 0;
            any |= s->received;
        }
        missing += missing_of(&g->clients[i]);
        served += any != 0;
    }
    printf("\"%s\":{\"count\":%d,\"live\":%d,\"served\":%d,\"deliveries\":%lu,\"round_trips\":%lu,\"holes\":%lu,\"duplicates\":%lu,"
           "\"gaps\":%lu,\"failed\":%lu,\"lost\":%lu,\"back\":%lu,\"bytes\":%lu,\"expected\":%lu,\"received\":%lu,\"missing\":%lu,"
           "\"extra\":%lu,",
           g->name, g->count, g->live, served, g->deliveries, g->round_trips, g->holes, g->duplicates, g->gaps, g->failed, g->lost,
           g->back, g->bytes, expected, received, missing, extra);
    print_histogram("delivery_ms", &g->delivery, MILLISECOND);
    putchar(',');
    print_histogram("round_trip_ms", &g->round_trip, MILLISECOND);
    putchar(',');
    print_histogram("handshake_ms", &g->handshake, MILLISECOND);
    putchar(',');
    print_histogram("replay_ms", &g->replay, MILLISECOND);
    putchar(',');
    print_histogram("away_ms", &g->away, MILLISECOND);
    putchar('}');
}

static void answer(const char *kind) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"is\":\"%s\",\"seconds\":%.6f,\"cpu_s\":%.6f,\"problem\":", kind, (now_ns() - began_at) / 1e9,
           used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    print_text(problem);
    printf(",\"groups\":{");
    for (int i = 0; i < groups_count; i++) {
        if (i) putchar(',');
        print_group(groups[i]);
    }
    printf("}}\n");
    fflush(stdout);
}

static void tell_progress(void) {
    uint64_t deliveries = 0, live = 0, count = 0;
    for (int i = 0; i < groups_count; i++) {
        deliveries += groups[i]->deliveries;
        live += groups[i]->live;
        count += groups[i]->count;
    }
    printf("{\"is\":\"progress\",\"live\":%lu,\"count\":%lu,\"deliveries\":%lu}\n", live, count, deliveries);
    fflush(stdout);
}

static const struct {
    const char *verb;
    void (*begin)(struct group *);
    int (*done)(struct group *);
    double limit_s;
} VERBS[] = {
    {"send", begin_sending, NULL, 120}, {"pace", begin_pace, NULL, 0},    {"cut", cut, NULL, 0},
    {"reopen", reopen, all_back, 120},  {"jitter", begin_jitter, NULL, 0}, {"back", NULL, all_back, 120},
    {"quiet", NULL, is_quiet, 30},      {"run", NULL, time_over, 1},       {"report", NULL, NULL, 0},
};

/* Begins a command; 0 if there is no such one. */
static int begin(void) {
    char verb[24];
    sscanf(line, "%23s", verb);
    began_at = now_ns();
    is_done = NULL;
    problem[0] = 0;
    waited = group_named(option("group"));
    deadline = began_at;
    quiet_from = began_at;
    if (!strcmp(verb, "exit")) {
        is_over = 1;
    } else if (!strcmp(verb, "dialect")) {
        const char *name = option("name");
        for (size_t i = 0; i < sizeof DIALECTS / sizeof *DIALECTS; i++)
            if (name && !strcmp(name, DIALECTS[i].name)) dialect = &DIALECTS[i];
        if (option("tokens")) read_tokens(option("tokens"));
        filler_bytes = number("filler", filler_bytes);
        if (!dialect || !tokens_count) note_problem("no such dialect, or no tokens");
    } else if (!strcmp(verb, "group")) {
        make_group();
        is_done = all_live;
        deadline = began_at + number("seconds", 120) * SECOND;
    } else if (!strcmp(verb, "reset")) {
        for (int i = 0; i < groups_count; i++) reset(groups[i]);
    } else {
        size_t i = 0, count = sizeof VERBS / sizeof *VERBS;
        while (i < count && strcmp(verb, VERBS[i].verb)) i++;
        if (i == count) return 0;
        if (VERBS[i].begin && !waited) {
            note_problem("%s: no such group", verb);
            return 1;
        }
        if (VERBS[i].begin) VERBS[i].begin(waited);
        deadline = began_at + number("seconds", VERBS[i].limit_s) * SECOND;
        is_done = VERBS[i].done;
        if (!strcmp(verb, "send")) is_done = option("count") ? all_sent : time_over;
    }
    return 1;
}

/* Ends the command under way when its wait is over, and begins the next that has arrived. */
static void take_commands(int *is_busy) {
    uint64_t now = now_ns();
    if (*is_busy) {
        if (is_done && !is_done(waited) && now < deadline) {
            if (now - told_at > SECOND / 2) {
                told_at = now;
                tell_progress();
            }
            return;
        }
        if (waited) waited->is_sending = 0;
        answer("done");
        *is_busy = 0;
        char *next = memchr(line, 0, line_length);
        size_t used = next + 1 - line;
        memmove(line, line + used, line_length - used);
        line_length -= used;
    }
    char *end = memchr(line, '\n', line_length);
    if (!end) return;
    *end = 0;
    *is_busy = begin();
    if (!*is_busy) {
        fprintf(stderr, "no such command: %s\n", line);
        exit(2);
    }
}

static void read_commands(void) {
    ssize_t got = read(0, line + line_length, sizeof line - line_length - 1);
    if (got == 0) is_over = 1;
    if (got > 0) line_length += got;
}

static int print_quantiles(void) {
    struct histogram *h = grow(NULL, sizeof *h);
    unsigned long value;
    memset(h, 0, sizeof *h);
    while (scanf("%lu", &value) == 1) record(h, value);
    putchar('{');
    print_histogram("values", h, 1);
    printf("}\n");
    return 0;
}

int main(int count, char **arguments) {
    if (count > 1 && !strcmp(arguments[1], "histogram")) return print_quantiles();
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    random_state ^= now_ns() * 2654435761u;
    sprintf(run_name, "%x", (unsigned)random_u64());
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    static int commands, timer;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &commands}, found[1024];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &event);
    event.data.ptr = &timer;
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer_fd, &event);
    int is_busy = 0;
    while (!is_over) {
        look();
        int n = epoll_wait(epoll_fd, found, 1024, -1);
        for (int i = 0; i < n; i++) {
            uint64_t ticks;
            if (found[i].data.ptr == &commands) read_commands();
            else if (found[i].data.ptr == &timer) (void)!read(timer_fd, &ticks, sizeof ticks);
            else take_event(&found[i]);
        }
        take_commands(&is_busy);
    }
    return 0;
}
