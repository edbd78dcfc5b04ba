// What the Go side calls: one crossing a job, one buffer back.
#ifndef TIERMESH_SHIM_H
#define TIERMESH_SHIM_H
#include <stddef.h>
#include <stdint.h>

typedef struct {
  uint8_t *data; // malloc'ed; free() it
  size_t len;
  char err[200]; // empty on success
} tm_out;

void tm_build(const uint8_t *base, size_t base_len, const uint8_t *actor,
              int64_t time_ms, const uint8_t *ops, size_t ops_len, tm_out *out);
void tm_read(const uint8_t *changes, size_t len, tm_out *out);
#endif
