/*
 * Drives Debian's libzookeeper-mt against a cluster: `client HOSTS SCENARIO`.
 *
 * A scenario ends the program with 0, or with 1 behind a line that names what does not hold. The scenario `failover`
 * prints `crash leader` when it wants that to happen, and goes on when a line comes in.
 *
 * Deliberately absent: retries that hide an error. Only `failover` expects connections to break.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#define TIMEOUT_MS 20000
#define PATIENCE_S 30
#define EVENTS_MAX 64

#define CHECK(holds, ...)                                              \
    do {                                                               \
        if (!(holds)) {                                                \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #holds); \
            fprintf(stderr, __VA_ARGS__);                              \
            fprintf(stderr, "\n");                                     \
            exit(1);                                                   \
        }                                                              \
    } while (0)

#define IS(call, code)                                                                \
    do {                                                                              \
        int got_ = (call);                                                            \
        CHECK(got_ == (code), "%d (%s), not %d", got_, zerror(got_), (code));         \
    } while (0)

/* What watchers were told, in order. A reply counts as well, with type 0. */
struct event {
    int type;
    char path[128];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct event events[EVENTS_MAX];
static int event_count;

static void note(int type, const char *path) {
    pthread_mutex_lock(&lock);
    CHECK(event_count < EVENTS_MAX, "too many events");
    events[event_count].type = type;
    snprintf(events[event_count].path, sizeof events[0].path, "%s", path ? path : "");
    event_count++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void on_session(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh, (void)type, (void)path, (void)context;
    pthread_mutex_lock(&lock);
    if (state == ZOO_EXPIRED_SESSION_STATE) {
        fprintf(stderr, "the session expired\n");
        exit(1);
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void on_watch(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh, (void)state, (void)context;
    if (type != ZOO_SESSION_EVENT)
        note(type, path);
}

static struct timespec deadline(void) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += PATIENCE_S;
    return at;
}

static void wait_events(int count) {
    struct timespec at = deadline();
    pthread_mutex_lock(&lock);
    while (event_count < count)
        CHECK(pthread_cond_timedwait(&changed, &lock, &at) == 0, "%d events after %d s, not %d", event_count,
              PATIENCE_S, count);
    pthread_mutex_unlock(&lock);
}

static void is_event(int at, int type, const char *path) {
    CHECK(events[at].type == type && strcmp(events[at].path, path) == 0, "event %d is %d at %s, not %d at %s", at,
          events[at].type, events[at].path, type, path);
}

static void wait_connected(zhandle_t *zh) {
    struct timespec at = deadline();
    pthread_mutex_lock(&lock);
    while (zoo_state(zh) != ZOO_CONNECTED_STATE) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        CHECK(soon.tv_sec < at.tv_sec, "not connected after %d s: state %d", PATIENCE_S, zoo_state(zh));
        soon.tv_sec += 1;
        pthread_cond_timedwait(&changed, &lock, &soon);
    }
    pthread_mutex_unlock(&lock);
}

static zhandle_t *begin(const char *hosts, const clientid_t *id) {
    zhandle_t *zh = zookeeper_init(hosts, on_session, TIMEOUT_MS, id, NULL, 0);
    CHECK(zh != NULL, "no handle");
    wait_connected(zh);
    return zh;
}

static void make(zhandle_t *zh, const char *path, const char *value) {
    IS(zoo_create(zh, path, value, (int)strlen(value), &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0), ZOK);
}

static int barriers;

static void on_barrier(int rc, const char *path, const void *context) {
    (void)path, (void)context;
    CHECK(rc == ZOK, "sync: %s", zerror(rc));
    pthread_mutex_lock(&lock);
    barriers++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* From here on the handle sees what other sessions wrote before: reads of its own server may be older. */
static void barrier(zhandle_t *zh) {
    struct timespec at = deadline();
    int before = barriers;
    IS(zoo_async(zh, "/", on_barrier, NULL), ZOK);
    pthread_mutex_lock(&lock);
    while (barriers == before)
        CHECK(pthread_cond_timedwait(&changed, &lock, &at) == 0, "no barrier after %d s", PATIENCE_S);
    pthread_mutex_unlock(&lock);
}

static void operations(zhandle_t *zh) {
    char path[64], data[64];
    int size = sizeof data;
    struct Stat stat, again;
    struct String_vector names;
    IS(zoo_create2(zh, "/c", "one", 3, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, path, sizeof path, &stat), ZOK);
    CHECK(strcmp(path, "/c") == 0 && stat.czxid == stat.mzxid && stat.dataLength == 3, "%s", path);
    IS(zoo_create(zh, "/c", "x", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0), ZNODEEXISTS);
    IS(zoo_create(zh, "/no/parent", "x", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0), ZNONODE);
    IS(zoo_create(zh, "relative", "x", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0), ZBADARGUMENTS);
    IS(zoo_get(zh, "/c", 0, data, &size, &again), ZOK);
    CHECK(size == 3 && memcmp(data, "one", 3) == 0, "%.*s", size, data);
    CHECK(again.czxid == stat.czxid && again.ctime == stat.ctime && again.pzxid == stat.czxid, "another stat");
    IS(zoo_get(zh, "/none", 0, data, &size, NULL), ZNONODE);
    IS(zoo_set2(zh, "/c", "three", 5, 0, &stat), ZOK);
    CHECK(stat.version == 1 && stat.dataLength == 5 && stat.mzxid > stat.czxid, "version %d", stat.version);
    IS(zoo_set(zh, "/c", "four", 4, 0), ZBADVERSION);
    IS(zoo_set(zh, "/c", NULL, -1, -1), ZOK);
    size = sizeof data;
    IS(zoo_get(zh, "/c", 0, data, &size, &stat), ZOK);
    CHECK(size == -1 && stat.dataLength == 0 && stat.version == 2, "a null of %d bytes", size);
    make(zh, "/c/b", "");
    make(zh, "/c/a", "");
    IS(zoo_get_children2(zh, "/c", 0, &names, &stat), ZOK);
    CHECK(names.count == 2 && stat.numChildren == 2 && stat.cversion == 2, "%d children", names.count);
    deallocate_String_vector(&names);
    IS(zoo_get_children(zh, "/none", 0, &names), ZNONODE);
    IS(zoo_delete(zh, "/c", -1), ZNOTEMPTY);
    IS(zoo_delete(zh, "/c/a", 7), ZBADVERSION);
    IS(zoo_delete(zh, "/c/a", 0), ZOK);
    IS(zoo_delete(zh, "/c/a", 0), ZNONODE);
    IS(zoo_exists(zh, "/c/a", 0, &stat), ZNONODE);
    IS(zoo_exists(zh, "/c/b", 0, &stat), ZOK);
    IS(zoo_create(zh, "/c/n-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path), ZOK);
    CHECK(strcmp(path, "/c/n-0000000002") == 0, "%s", path);
    IS(zoo_create(zh, "/c/box", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_CONTAINER, path, sizeof path), ZOK);
    IS(zoo_create_ttl(zh, "/c/ttl", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 5000, NULL, 0),
       ZUNIMPLEMENTED);
    size = sizeof data;
    IS(zoo_reconfig(zh, NULL, NULL, "server.1=h:1:2:participant;3", -1, data, &size, &stat), ZRECONFIGDISABLED);
}

static void acl_is(zhandle_t *zh, const char *path, int count, const char *scheme, int version) {
    struct ACL_vector acl;
    struct Stat stat;
    IS(zoo_get_acl(zh, path, &acl, &stat), ZOK);
    CHECK(acl.count == count && strcmp(acl.data[0].id.scheme, scheme) == 0 && stat.aversion == version,
          "%d entries of %s, version %d", acl.count, acl.data[0].id.scheme, stat.aversion);
    deallocate_ACL_vector(&acl);
}

static int auth_code;

static void on_auth(int code, const void *context) {
    (void)context;
    auth_code = code;
    note(0, "auth");
}

static void acls(zhandle_t *zh, const char *hosts) {
    struct ACL_vector none = {0, NULL};
    char data[16];
    int size = sizeof data;
    IS(zoo_create(zh, "/acl", "", 0, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0), ZINVALIDACL);
    IS(zoo_create(zh, "/acl", "", 0, &none, ZOO_PERSISTENT, NULL, 0), ZINVALIDACL);
    IS(zoo_add_auth(zh, "digest", "user:secret", 11, on_auth, NULL), ZOK);
    wait_events(1);
    CHECK(auth_code == ZOK, "auth: %s", zerror(auth_code));
    IS(zoo_create(zh, "/acl", "kept", 4, &ZOO_CREATOR_ALL_ACL, ZOO_PERSISTENT, NULL, 0), ZOK);
    acl_is(zh, "/acl", 1, "digest", 0);
    zhandle_t *other = begin(hosts, NULL);
    barrier(other);
    IS(zoo_get(other, "/acl", 0, data, &size, NULL), ZNOAUTH);
    IS(zoo_set(other, "/acl", "x", 1, -1), ZNOAUTH);
    IS(zoo_set_acl(other, "/acl", -1, &ZOO_OPEN_ACL_UNSAFE), ZNOAUTH);
    IS(zoo_set_acl(zh, "/acl", 3, &ZOO_READ_ACL_UNSAFE), ZBADVERSION);
    IS(zoo_set_acl(zh, "/acl", 0, &ZOO_READ_ACL_UNSAFE), ZOK);
    acl_is(zh, "/acl", 1, "world", 1);
    size = sizeof data;
    IS(zoo_get(zh, "/acl", 0, data, &size, NULL), ZOK);
    IS(zoo_set(zh, "/acl", "x", 1, -1), ZNOAUTH);
    IS(zookeeper_close(other), ZOK);
}

static void multi(zhandle_t *zh) {
    zoo_op_t ops[4];
    zoo_op_result_t results[4];
    struct Stat stat;
    char path[32];
    make(zh, "/m", "");
    zoo_create_op_init(&ops[0], "/m/s-", "a", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path);
    zoo_check_op_init(&ops[1], "/m", 0);
    zoo_set_op_init(&ops[2], "/m", "b", 1, 0, &stat);
    zoo_delete_op_init(&ops[3], "/m/s-0000000000", -1);
    IS(zoo_multi(zh, 4, ops, results), ZOK);
    CHECK(strcmp(path, "/m/s-0000000000") == 0 && stat.version == 1, "%s, version %d", path, stat.version);
    IS(zoo_exists(zh, path, 0, NULL), ZNONODE);
    zoo_create_op_init(&ops[0], "/m/never", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, path, sizeof path);
    zoo_check_op_init(&ops[1], "/m", 0);
    zoo_delete_op_init(&ops[2], "/m", -1);
    IS(zoo_multi(zh, 3, ops, results), ZBADVERSION);
    CHECK(results[0].err == ZOK && results[1].err == ZBADVERSION && results[2].err == ZRUNTIMEINCONSISTENCY,
          "%d %d %d", results[0].err, results[1].err, results[2].err);
    IS(zoo_exists(zh, "/m/never", 0, NULL), ZNONODE);
}

static int read_rc;
static char read_value[8];

static void on_read(int rc, const char *value, int size, const struct Stat *stat, const void *context) {
    (void)stat, (void)context;
    read_rc = rc;
    snprintf(read_value, sizeof read_value, "%.*s", size, value);
    note(0, "reply");
}

static void watches(zhandle_t *zh, const char *hosts) {
    zhandle_t *other = begin(hosts, NULL);
    struct Stat stat;
    struct String_vector names;
    char data[16];
    int size = sizeof data;
    make(zh, "/w", "old");
    IS(zoo_wexists(zh, "/w/new", on_watch, NULL, &stat), ZNONODE);
    IS(zoo_wget_children(zh, "/w", on_watch, NULL, &names), ZOK);
    deallocate_String_vector(&names);
    make(other, "/w/new", "");
    wait_events(2);
    /* Of one change, the node's own watch comes before its parent's. */
    is_event(0, ZOO_CREATED_EVENT, "/w/new");
    is_event(1, ZOO_CHILD_EVENT, "/w");
    IS(zoo_wget(zh, "/w/new", on_watch, NULL, data, &size, NULL), ZOK);
    IS(zoo_delete(other, "/w/new", -1), ZOK);
    wait_events(3);
    is_event(2, ZOO_DELETED_EVENT, "/w/new");

    /* A client sees the event of a change before it sees the change. */
    size = sizeof data;
    IS(zoo_wget(zh, "/w", on_watch, NULL, data, &size, NULL), ZOK);
    IS(zoo_set(other, "/w", "new", 3, -1), ZOK);
    do {
        int before = event_count;
        IS(zoo_aget(zh, "/w", 0, on_read, NULL), ZOK);
        wait_events(before + 1);
        while (strcmp(events[event_count - 1].path, "reply") != 0)
            wait_events(event_count + 1);
        IS(read_rc, ZOK);
    } while (strcmp(read_value, "new") != 0);
    int event_at = -1, reply_at = event_count - 1;
    for (int at = 3; at < event_count; at++)
        if (events[at].type == ZOO_CHANGED_EVENT)
            event_at = at;
    CHECK(event_at > 0 && event_at < reply_at, "the event came %d., the data %d.", event_at, reply_at);

    int before = event_count;
    size = sizeof data;
    IS(zoo_wget(zh, "/w", on_watch, NULL, data, &size, NULL), ZOK);
    IS(zoo_remove_watches(zh, "/w", ZWATCHTYPE_DATA, on_watch, NULL, 0), ZOK);
    IS(zoo_remove_watches(zh, "/w", ZWATCHTYPE_DATA, on_watch, NULL, 0), ZNOWATCHER);
    IS(zoo_set(other, "/w", "more", 4, -1), ZOK);
    make(zh, "/w/last", "");
    IS(zoo_wexists(zh, "/w/last", on_watch, NULL, &stat), ZOK);
    IS(zoo_delete(zh, "/w/last", -1), ZOK);
    wait_events(before + 1);
    is_event(event_count - 1, ZOO_DELETED_EVENT, "/w/last");
    CHECK(event_count == before + 1, "a removed watch fired");
    IS(zookeeper_close(other), ZOK);
}

static void ephemerals(zhandle_t *zh, const char *hosts) {
    char path[64];
    struct Stat stat;
    zhandle_t *other = begin(hosts, NULL);
    make(zh, "/e", "");
    IS(zoo_create2(other, "/e/m-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL_SEQUENTIAL, path, sizeof path, &stat), ZOK);
    CHECK(strcmp(path, "/e/m-0000000000") == 0, "%s", path);
    CHECK(stat.ephemeralOwner == zoo_client_id(other)->client_id, "another owner");
    IS(zoo_create(other, "/e/m-0000000000/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT, NULL, 0),
       ZNOCHILDRENFOREPHEMERALS);
    barrier(zh);
    IS(zoo_wexists(zh, path, on_watch, NULL, &stat), ZOK);
    IS(zookeeper_close(other), ZOK);
    wait_events(1);
    is_event(0, ZOO_DELETED_EVENT, path);
    IS(zoo_exists(zh, path, 0, NULL), ZNONODE);
}

/* A call whose connection broke is made again; what it answers then counts. */
#define RETRY(zh, call)                        \
    ({                                         \
        int code_;                             \
        while ((code_ = (call)) == ZCONNECTIONLOSS || code_ == ZOPERATIONTIMEOUT) \
            wait_connected(zh);                \
        code_;                                 \
    })

static void failover(zhandle_t *zh) {
    char line[16], data[16];
    int size = sizeof data;
    struct Stat stat;
    make(zh, "/f", "before");
    IS(zoo_create(zh, "/f/mine", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0), ZOK);
    IS(zoo_wget(zh, "/f", on_watch, NULL, data, &size, NULL), ZOK);
    clientid_t id = *zoo_client_id(zh);
    for (int round = 0; round < 3; round++) {
        printf("crash leader\n");
        fflush(stdout);
        CHECK(fgets(line, sizeof line, stdin) != NULL, "nobody crashed the leader");
        IS(RETRY(zh, zoo_exists(zh, "/f/mine", 0, &stat)), ZOK);
        CHECK(stat.ephemeralOwner == id.client_id && zoo_client_id(zh)->client_id == id.client_id,
              "another session owns the node");
    }
    CHECK(event_count == 0, "nothing changed, and yet a watch fired");
    IS(RETRY(zh, zoo_set(zh, "/f", "after", 5, -1)), ZOK);
    wait_events(1);
    is_event(0, ZOO_CHANGED_EVENT, "/f");
}

int main(int argc, char **argv) {
    CHECK(argc == 3, "usage: client HOSTS SCENARIO");
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    const char *hosts = argv[1], *scenario = argv[2];
    zhandle_t *zh = begin(hosts, NULL);
    if (strcmp(scenario, "operations") == 0)
        operations(zh);
    else if (strcmp(scenario, "acls") == 0)
        acls(zh, hosts);
    else if (strcmp(scenario, "multi") == 0)
        multi(zh);
    else if (strcmp(scenario, "watches") == 0)
        watches(zh, hosts);
    else if (strcmp(scenario, "ephemerals") == 0)
        ephemerals(zh, hosts);
    else if (strcmp(scenario, "failover") == 0)
        failover(zh);
    else
        CHECK(0, "no scenario %s", scenario);
    IS(zookeeper_close(zh), ZOK);
    printf("done\n");
    return 0;
}
