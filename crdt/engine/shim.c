// A small layer over the Automerge C library: it loads, edits or walks a whole
// document in one call from Go and frees every result at once. Only the
// functions that are used are declared, weakly: this package's own trial link
// lacks the library, which package automerge-go brings to the final link.
#include "shim.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WEAK __attribute__((weak))

typedef struct AMresult AMresult;
typedef struct AMitem AMitem;
typedef struct AMdoc AMdoc;
typedef struct AMobjId AMobjId;
typedef struct AMactorId AMactorId;
typedef struct AMchange AMchange;
typedef struct { const uint8_t *src; size_t count; } AMbyteSpan;
typedef struct { uint8_t detail[3 * sizeof(void *)]; } AMitems;

enum { OBJ_LIST = 1, OBJ_MAP = 2, OBJ_TEXT = 3 };
enum {
  VAL_VOID = 1 << 0, VAL_BOOL = 1 << 2, VAL_BYTES = 1 << 3, VAL_COUNTER = 1 << 6,
  VAL_F64 = 1 << 8, VAL_INT = 1 << 9, VAL_NULL = 1 << 11, VAL_OBJ = 1 << 12,
  VAL_STR = 1 << 13, VAL_TIMESTAMP = 1 << 17, VAL_UINT = 1 << 18,
};

WEAK void AMresultFree(AMresult *);
WEAK uint8_t AMresultStatus(const AMresult *);
WEAK AMbyteSpan AMresultError(const AMresult *);
WEAK AMitem *AMresultItem(AMresult *);
WEAK AMitems AMresultItems(AMresult *);
WEAK AMitem *AMitemsNext(AMitems *, ptrdiff_t);
WEAK size_t AMitemsSize(const AMitems *);
WEAK uint32_t AMitemValType(const AMitem *);
WEAK bool AMitemToDoc(AMitem *, AMdoc **);
WEAK bool AMitemToActorId(const AMitem *, const AMactorId **);
WEAK bool AMitemToChange(AMitem *, AMchange **);
WEAK bool AMitemToChangeHash(const AMitem *, AMbyteSpan *);
WEAK bool AMitemToStr(const AMitem *, AMbyteSpan *);
WEAK bool AMitemToBytes(const AMitem *, AMbyteSpan *);
WEAK bool AMitemToBool(const AMitem *, bool *);
WEAK bool AMitemToInt(const AMitem *, int64_t *);
WEAK bool AMitemToUint(const AMitem *, uint64_t *);
WEAK bool AMitemToF64(const AMitem *, double *);
WEAK bool AMitemToCounter(const AMitem *, int64_t *);
WEAK bool AMitemToTimestamp(const AMitem *, int64_t *);
WEAK const AMobjId *AMitemObjId(const AMitem *);
WEAK uint64_t AMobjIdCounter(const AMobjId *);
WEAK const AMactorId *AMobjIdActorId(const AMobjId *);
WEAK uint8_t AMobjObjType(const AMdoc *, const AMobjId *);
WEAK AMbyteSpan AMactorIdBytes(const AMactorId *);
WEAK AMresult *AMactorIdFromBytes(const uint8_t *, size_t);
WEAK AMresult *AMcreate(const AMactorId *);
WEAK AMresult *AMsetActorId(AMdoc *, const AMactorId *);
WEAK AMresult *AMloadIncremental(AMdoc *, const uint8_t *, size_t);
WEAK size_t AMpendingOps(const AMdoc *);
WEAK AMresult *AMcommit(AMdoc *, AMbyteSpan, const int64_t *);
WEAK AMresult *AMgetLastLocalChange(AMdoc *);
WEAK AMbyteSpan AMchangeRawBytes(const AMchange *);
WEAK AMresult *AMgetHeads(AMdoc *);
WEAK AMresult *AMkeys(const AMdoc *, const AMobjId *, const void *);
WEAK AMresult *AMmapGet(const AMdoc *, const AMobjId *, AMbyteSpan, const void *);
WEAK AMresult *AMmapGetAll(const AMdoc *, const AMobjId *, AMbyteSpan, const void *);
WEAK AMresult *AMmapDelete(AMdoc *, const AMobjId *, AMbyteSpan);
WEAK AMresult *AMmapPutObject(AMdoc *, const AMobjId *, AMbyteSpan, uint8_t);
WEAK AMresult *AMmapPutStr(AMdoc *, const AMobjId *, AMbyteSpan, AMbyteSpan);
WEAK AMresult *AMmapPutBytes(AMdoc *, const AMobjId *, AMbyteSpan, AMbyteSpan);
WEAK AMresult *AMmapPutBool(AMdoc *, const AMobjId *, AMbyteSpan, bool);
WEAK AMresult *AMmapPutInt(AMdoc *, const AMobjId *, AMbyteSpan, int64_t);
WEAK AMresult *AMmapPutF64(AMdoc *, const AMobjId *, AMbyteSpan, double);
WEAK AMresult *AMmapPutNull(AMdoc *, const AMobjId *, AMbyteSpan);
WEAK AMresult *AMlistRange(const AMdoc *, const AMobjId *, size_t, size_t, const void *);
WEAK AMresult *AMlistPutStr(AMdoc *, const AMobjId *, size_t, bool, AMbyteSpan);
WEAK AMresult *AMlistPutBytes(AMdoc *, const AMobjId *, size_t, bool, AMbyteSpan);
WEAK AMresult *AMlistPutBool(AMdoc *, const AMobjId *, size_t, bool, bool);
WEAK AMresult *AMlistPutInt(AMdoc *, const AMobjId *, size_t, bool, int64_t);
WEAK AMresult *AMlistPutF64(AMdoc *, const AMobjId *, size_t, bool, double);
WEAK AMresult *AMlistPutNull(AMdoc *, const AMobjId *, size_t, bool);
WEAK AMresult *AMtext(const AMdoc *, const AMobjId *, const void *);

// fail records the first error.
static bool fail(tm_out *o, const char *what) {
  if (!o->err[0]) snprintf(o->err, sizeof o->err, "%s", what);
  return false;
}

// ok takes a result: true when it is a success. On an error it is freed.
static bool ok(tm_out *o, AMresult *r, const char *what) {
  if (r && AMresultStatus(r) == 0) return true;
  if (!o->err[0]) {
    AMbyteSpan e = {0};
    if (r) e = AMresultError(r);
    snprintf(o->err, sizeof o->err, "%s: %.*s", what, (int)(e.count > 150 ? 150 : e.count), e.src ? (const char *)e.src : "");
  }
  if (r) AMresultFree(r);
  return false;
}

// done is ok for results that hold nothing of use.
static bool done(tm_out *o, AMresult *r, const char *what) {
  if (!ok(o, r, what)) return false;
  AMresultFree(r);
  return true;
}

// The output buffer.
typedef struct { uint8_t *p; size_t len, cap; bool oom; } buf;

static void put(buf *b, const void *p, size_t n) {
  if (b->len + n > b->cap) {
    size_t cap = b->cap ? b->cap * 2 : 1024;
    while (cap < b->len + n) cap *= 2;
    uint8_t *q = realloc(b->p, cap);
    if (!q) { b->oom = true; return; }
    b->p = q;
    b->cap = cap;
  }
  if (n) memcpy(b->p + b->len, p, n);
  b->len += n;
}
static void put8(buf *b, uint8_t v) { put(b, &v, 1); }
static void put32(buf *b, uint32_t v) { put(b, &v, 4); }
static void put64(buf *b, uint64_t v) { put(b, &v, 8); }
static void putspan(buf *b, AMbyteSpan s) { put32(b, (uint32_t)s.count); put(b, s.src, s.count); }

static void finish(tm_out *o, buf *b) {
  if (b->oom) fail(o, "out of memory");
  if (o->err[0]) { free(b->p); return; }
  o->data = b->p;
  o->len = b->len;
}

// opendoc makes a document from concatenated changes; *r owns it.
static AMdoc *opendoc(tm_out *o, const uint8_t *changes, size_t len, AMresult **r) {
  AMdoc *doc = NULL;
  if (!AMcreate) { fail(o, "Automerge library is not linked"); return NULL; }
  *r = AMcreate(NULL);
  if (!ok(o, *r, "create")) { *r = NULL; return NULL; }
  if (!AMitemToDoc(AMresultItem(*r), &doc)) { fail(o, "create: no document"); return NULL; }
  if (len && !done(o, AMloadIncremental(doc, changes, len), "load")) return NULL;
  return doc;
}

static void putheads(tm_out *o, buf *b, AMdoc *doc) {
  AMresult *r = AMgetHeads(doc);
  if (!ok(o, r, "heads")) return;
  AMitems items = AMresultItems(r);
  put32(b, (uint32_t)AMitemsSize(&items));
  AMbyteSpan h;
  for (AMitem *it; (it = AMitemsNext(&items, 1));) {
    if (AMitemToChangeHash(it, &h) && h.count == 32) put(b, h.src, 32);
    else fail(o, "heads: not a hash");
  }
  AMresultFree(r);
}

#define DEPTH_MAX 32

static bool walk(tm_out *o, buf *b, const AMdoc *doc, const AMobjId *obj, uint8_t type, int depth);

// written emits the operation that wrote an item, then its value.
static bool written(tm_out *o, buf *b, const AMdoc *doc, AMitem *it, int depth) {
  const AMobjId *id = AMitemObjId(it);
  const AMactorId *actor = id ? AMobjIdActorId(id) : NULL;
  AMbyteSpan a = {0};
  if (actor) a = AMactorIdBytes(actor);
  if (a.count != 16) return fail(o, "walk: no actor of 16 bytes");
  put(b, a.src, 16);
  put64(b, AMobjIdCounter(id));
  AMbyteSpan s;
  bool t;
  int64_t i;
  uint64_t u;
  double f;
  switch (AMitemValType(it)) {
  case VAL_OBJ: return walk(o, b, doc, id, AMobjObjType(doc, id), depth + 1);
  case VAL_NULL: put8(b, 'n'); return true;
  case VAL_BOOL: AMitemToBool(it, &t); put8(b, t ? 't' : 'f'); return true;
  case VAL_INT: AMitemToInt(it, &i); put8(b, 'i'); put64(b, (uint64_t)i); return true;
  case VAL_COUNTER: AMitemToCounter(it, &i); put8(b, 'i'); put64(b, (uint64_t)i); return true;
  case VAL_TIMESTAMP: AMitemToTimestamp(it, &i); put8(b, 'i'); put64(b, (uint64_t)i); return true;
  case VAL_UINT: AMitemToUint(it, &u); put8(b, 'u'); put64(b, u); return true;
  case VAL_F64: AMitemToF64(it, &f); put8(b, 'd'); put(b, &f, 8); return true;
  case VAL_STR: AMitemToStr(it, &s); put8(b, 's'); putspan(b, s); return true;
  case VAL_BYTES: AMitemToBytes(it, &s); put8(b, 'b'); putspan(b, s); return true;
  default: return fail(o, "walk: value of an unknown type");
  }
}

// all emits the number of items of a result and each of them, and frees it.
static bool all(tm_out *o, buf *b, const AMdoc *doc, AMresult *r, int depth) {
  if (!ok(o, r, "walk")) return false;
  AMitems items = AMresultItems(r);
  put32(b, (uint32_t)AMitemsSize(&items));
  bool good = true;
  for (AMitem *it; good && (it = AMitemsNext(&items, 1));) good = written(o, b, doc, it, depth);
  AMresultFree(r);
  return good;
}

static bool walkmap(tm_out *o, buf *b, const AMdoc *doc, const AMobjId *obj, int depth) {
  AMresult *keys = AMkeys(doc, obj, NULL);
  if (!ok(o, keys, "keys")) return false;
  AMitems items = AMresultItems(keys);
  put8(b, 'M');
  put32(b, (uint32_t)AMitemsSize(&items));
  bool good = true;
  AMbyteSpan key;
  for (AMitem *it; good && (it = AMitemsNext(&items, 1));) {
    good = AMitemToStr(it, &key) || fail(o, "keys: not a string");
    if (!good) break;
    putspan(b, key);
    good = all(o, b, doc, AMmapGetAll(doc, obj, key, NULL), depth);
  }
  AMresultFree(keys);
  return good;
}

static bool walk(tm_out *o, buf *b, const AMdoc *doc, const AMobjId *obj, uint8_t type, int depth) {
  if (depth > DEPTH_MAX) return fail(o, "walk: nested too deeply");
  AMbyteSpan s;
  AMresult *r;
  switch (type) {
  case OBJ_MAP: return walkmap(o, b, doc, obj, depth);
  case OBJ_LIST: put8(b, 'L'); return all(o, b, doc, AMlistRange(doc, obj, 0, SIZE_MAX, NULL), depth);
  case OBJ_TEXT:
    r = AMtext(doc, obj, NULL);
    if (!ok(o, r, "text")) return false;
    put8(b, 'T');
    if (AMitemToStr(AMresultItem(r), &s)) putspan(b, s);
    else fail(o, "text: not a string");
    AMresultFree(r);
    return !o->err[0];
  default: return fail(o, "walk: object of an unknown type");
  }
}

void tm_read(const uint8_t *changes, size_t len, tm_out *o) {
  AMresult *owner = NULL;
  buf b = {0};
  memset(o, 0, sizeof *o);
  AMdoc *doc = opendoc(o, changes, len, &owner);
  if (doc) {
    putheads(o, &b, doc);
    walk(o, &b, doc, NULL, OBJ_MAP, 0);
  }
  if (owner) AMresultFree(owner);
  finish(o, &b);
}

// The operations' reader; Go wrote them, so lengths are true.
typedef struct { const uint8_t *p, *end; } in;
static uint8_t get8(in *i) { return *i->p++; }
static uint64_t get64(in *i) { uint64_t v; memcpy(&v, i->p, 8); i->p += 8; return v; }
static AMbyteSpan getspan(in *i) {
  uint32_t n;
  memcpy(&n, i->p, 4);
  AMbyteSpan s = {i->p + 4, n};
  i->p += 4 + (size_t)n;
  return s;
}

// value puts a scalar under a key of a map, or at the end of a list.
static bool value(tm_out *o, AMdoc *doc, const AMobjId *obj, bool list, AMbyteSpan key, in *i) {
  uint8_t tag = get8(i);
  uint64_t bits;
  double f;
  AMbyteSpan s;
  size_t end = SIZE_MAX;
  switch (tag) {
  case 'n': return done(o, list ? AMlistPutNull(doc, obj, end, true) : AMmapPutNull(doc, obj, key), "put");
  case 't': case 'f':
    return done(o, list ? AMlistPutBool(doc, obj, end, true, tag == 't') : AMmapPutBool(doc, obj, key, tag == 't'), "put");
  case 'i':
    bits = get64(i);
    return done(o, list ? AMlistPutInt(doc, obj, end, true, (int64_t)bits) : AMmapPutInt(doc, obj, key, (int64_t)bits), "put");
  case 'd':
    bits = get64(i);
    memcpy(&f, &bits, 8);
    return done(o, list ? AMlistPutF64(doc, obj, end, true, f) : AMmapPutF64(doc, obj, key, f), "put");
  case 's':
    s = getspan(i);
    return done(o, list ? AMlistPutStr(doc, obj, end, true, s) : AMmapPutStr(doc, obj, key, s), "put");
  default:
    s = getspan(i);
    return done(o, list ? AMlistPutBytes(doc, obj, end, true, s) : AMmapPutBytes(doc, obj, key, s), "put");
  }
}

enum { OP_PUT = 1, OP_DELETE, OP_MAKE_MAP, OP_MAKE_LIST, OP_APPEND };

static bool edit(tm_out *o, AMdoc *doc, in *i) {
  uint8_t kind = get8(i);
  AMbyteSpan container = getspan(i), key = getspan(i);
  AMresult *holder = NULL;
  const AMobjId *obj = NULL;
  if (container.count) {
    holder = AMmapGet(doc, NULL, container, NULL);
    if (!ok(o, holder, "container")) return false;
    AMitem *it = AMresultItem(holder);
    uint8_t want = kind == OP_APPEND ? OBJ_LIST : OBJ_MAP;
    obj = it && AMitemValType(it) == VAL_OBJ ? AMitemObjId(it) : NULL;
    if (!obj || AMobjObjType(doc, obj) != want) {
      AMresultFree(holder);
      snprintf(o->err, sizeof o->err, "no %s %.*s in the document", want == OBJ_LIST ? "list" : "map",
               (int)(container.count > 100 ? 100 : container.count), (const char *)container.src);
      return false;
    }
  }
  bool good;
  switch (kind) {
  case OP_PUT: good = value(o, doc, obj, false, key, i); break;
  case OP_APPEND: good = value(o, doc, obj, true, key, i); break;
  case OP_DELETE: good = done(o, AMmapDelete(doc, obj, key), "delete"); break;
  case OP_MAKE_MAP: good = done(o, AMmapPutObject(doc, obj, key, OBJ_MAP), "make map"); break;
  default: good = done(o, AMmapPutObject(doc, obj, key, OBJ_LIST), "make list");
  }
  if (holder) AMresultFree(holder);
  return good;
}

// become sets who writes; it must follow the load, which resets it.
static bool become(tm_out *o, AMdoc *doc, const uint8_t *actor) {
  const AMactorId *id = NULL;
  AMresult *r = AMactorIdFromBytes(actor, 16);
  if (!ok(o, r, "actor")) return false;
  bool good = AMitemToActorId(AMresultItem(r), &id) && done(o, AMsetActorId(doc, id), "set actor");
  AMresultFree(r);
  return good;
}

void tm_build(const uint8_t *base, size_t base_len, const uint8_t *actor,
              int64_t time_ms, const uint8_t *ops, size_t ops_len, tm_out *o) {
  AMresult *owner = NULL, *last = NULL;
  buf b = {0};
  memset(o, 0, sizeof *o);
  AMdoc *doc = opendoc(o, base, base_len, &owner);
  bool good = doc && become(o, doc, actor);
  in i = {ops, ops + ops_len};
  while (good && i.p < i.end) good = edit(o, doc, &i);
  AMbyteSpan none = {0};
  // Putting the value that is there already makes no operation, and a commit
  // of none would hand out the actor's previous change.
  if (good && AMpendingOps(doc) == 0) good = false;
  if (good && done(o, AMcommit(doc, none, &time_ms), "commit")) {
    last = AMgetLastLocalChange(doc);
    AMchange *c = NULL;
    if (ok(o, last, "last change")) {
      if (AMitemToChange(AMresultItem(last), &c)) {
        AMbyteSpan raw = AMchangeRawBytes(c);
        put(&b, raw.src, raw.count);
      } else {
        fail(o, "commit: no change");
      }
      AMresultFree(last);
    }
  }
  if (owner) AMresultFree(owner);
  finish(o, &b);
}
