// Preamble of every C++ kernel for the `cpu` target: the coder puts this text in front of the kernel's source.
//
// Scalar functions in float that gcc and clang vectorise inside `#pragma omp simd` loops without -ffast-math, so that inf and NaN keep their meaning:
// kexp, klog, ktanh, kerf, ksigmoid. Largest errors measured over a sweep of all exponents: 1.01, 0.8, 1.3, 6 and 2 ulp (ksigmoid(x) is 0 below -88.7).
// The polynomials are least-maximum fits computed for this file (Lawson iteration, 120-bit reference values).
//
// Memory: kstream copies a finished tile from cache to its place with non-temporal stores; khuge asks Linux for huge pages behind a fresh output.
// Values stay IEEE; only floating-point exception flags and errno, which no kernel reads, are given up. Without this gcc does not vectorise comparisons.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-trapping-math", "no-math-errno")
#endif

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <omp.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define KINLINE static inline __attribute__((always_inline))

KINLINE float kfrom_bits(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

KINLINE int32_t kto_bits(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

// exp(x) = 2^n * exp(r), |r| <= ln(2) / 2. The power of two is applied in two halves, so that overflow gives inf and results below 2^-126 round to denormals.
KINLINE float kexp(float x) {
  x = x > 89.0f ? 89.0f : x;  // written so that NaN stays NaN
  x = x < -104.0f ? -104.0f : x;
  const float shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer in the low bits
  const float n = shifted - 12582912.0f;
  float r = x - n * 0.693145751953125f;
  r = r - n * 1.42860682030941723e-6f;
  float p = 0.00139504881f;
  p = p * r + 0.00836888794f;
  p = p * r + 0.041666206f;
  p = p * r + 0.166665182f;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  const int32_t exponent = kto_bits(shifted) - 0x4B400000;
  const int32_t half = exponent >> 1;
  return p * kfrom_bits((int32_t)((uint32_t)(half + 127) << 23)) * kfrom_bits((int32_t)((uint32_t)(exponent - half + 127) << 23));
}

// exp(x) for x <= 0 or NaN, as in a softmax: about a third cheaper than kexp. Results below 2^-126 become 0.
KINLINE float kexp_nonpositive(float x) {
  const bool tiny = x < -87.3365402f;
  const float bounded = tiny ? -87.3365402f : x;
  const float shifted = bounded * 1.44269504088896341f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  float r = bounded - n * 0.693145751953125f;
  r = r - n * 1.42860682030941723e-6f;
  float p = 0.00139504881f;
  p = p * r + 0.00836888794f;
  p = p * r + 0.041666206f;
  p = p * r + 0.166665182f;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  const float value = kfrom_bits((int32_t)((uint32_t)kto_bits(p) + ((uint32_t)kto_bits(shifted) << 23)));
  return x != x ? x : tiny ? 0.0f : value;
}

// log(m * 2^e) = log(m) + e * ln(2) with m in [sqrt(1/2), sqrt(2)).
KINLINE float klog(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const float scaled = tiny ? x * 8388608.0f : x;
  const int32_t bits = kto_bits(scaled);
  const int32_t offset = (bits - 0x3F3504F3) >> 23;  // 0x3F3504F3 is sqrt(1/2)
  const float m = kfrom_bits(bits - (int32_t)((uint32_t)offset << 23));
  const float e = (float)offset - (tiny ? 23.0f : 0.0f);
  const float f = m - 1.0f;
  float p = -0.0785961151f;
  p = p * f + 0.128816471f;
  p = p * f + -0.131287545f;
  p = p * f + 0.141811922f;
  p = p * f + -0.166245535f;
  p = p * f + 0.200022861f;
  p = p * f + -0.250008106f;
  p = p * f + 0.333333164f;
  const float square = f * f;
  float tail = p * f * square + e * 1.42860682030941723e-6f;
  tail = tail - 0.5f * square;
  float value = tail + f + e * 0.693145751953125f;
  value = x == std::numeric_limits<float>::infinity() ? x : value;
  value = x == 0.0f ? -std::numeric_limits<float>::infinity() : value;
  value = x < 0.0f ? std::numeric_limits<float>::quiet_NaN() : value;
  return x != x ? x : value;
}

KINLINE float ksigmoid(float x) { return 1.0f / (1.0f + kexp(-x)); }

KINLINE float ktanh(float x) {
  const float magnitude = __builtin_fabsf(x);
  const float square = magnitude * magnitude;
  float p = 0.00214753975f;
  p = p * square + -0.00818267744f;
  p = p * square + 0.0217029694f;
  p = p * square + -0.0539472029f;
  p = p * square + 0.133332103f;
  p = p * square + -0.333333313f;
  const float near = p * square * magnitude + magnitude;
  const float far = 1.0f - 2.0f / (kexp(2.0f * magnitude) + 1.0f);
  return __builtin_copysignf(magnitude < 0.625f ? near : far, x);
}

// erf(x) = x * P(x^2) / Q(x^2) on [-4, 4]; outside it is 1 in float. Largest error 3.5e-7 absolute (6 units of the last place below 1), half the cost of a
// form with an exponential, and no branch to blend.
KINLINE float kerf(float x) {
  float t = x > 4.0f ? 4.0f : x;
  t = t < -4.0f ? -4.0f : t;
  const float s = t * t;
  float p = 1.98674638e-06f;
  p = p * s + 0.000284565758f;
  p = p * s + 0.00388341746f;
  p = p * s + 0.0531019755f;
  p = p * s + 0.19354704f;
  p = p * s + 1.12837911f;
  float q = 3.7419788e-05f;
  q = q * s + 0.0011855854f;
  q = q * s + 0.0152074033f;
  q = q * s + 0.11535079f;
  q = q * s + 0.504859149f;
  q = q * s + 1.0f;
  float value = t * p / q;
  value = value > 1.0f ? 1.0f : value;
  return value < -1.0f ? -1.0f : value;
}

// Copy `count` floats from `source` (in cache) to `target` with non-temporal stores where the hardware has them. An ordinary store to memory that is not in
// cache first reads the line (read for ownership): streaming saves that third transfer. Call kstream_fence once per thread after the last call.
KINLINE void kstream(float* target, const float* source, int64_t count) {
  int64_t i = 0;
#if defined(__AVX512F__)
  while (i < count && (reinterpret_cast<uintptr_t>(target + i) & 63)) { target[i] = source[i]; ++i; }
  for (; i + 16 <= count; i += 16) _mm512_stream_ps(target + i, _mm512_loadu_ps(source + i));
#elif defined(__AVX__)
  while (i < count && (reinterpret_cast<uintptr_t>(target + i) & 31)) { target[i] = source[i]; ++i; }
  for (; i + 8 <= count; i += 8) _mm256_stream_ps(target + i, _mm256_loadu_ps(source + i));
#endif
  for (; i < count; ++i) target[i] = source[i];
}

KINLINE void kstream_fence() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// Fetch `count` floats towards the cache while other work goes on.
KINLINE void kprefetch(const float* source, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(source + i, 0, 3);
}

// Ask for 2 MiB pages behind a large fresh output: one page fault instead of 512, each of which costs about as much as clearing the page. Harmless where the
// memory is already there or the system has no huge pages.
KINLINE void khuge(void* address, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t page = 4096, begin = (reinterpret_cast<uintptr_t>(address) + page - 1) & ~(page - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(address) + (uintptr_t)bytes) & ~(page - 1);
  if (bytes >= (4 << 20) && end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}
