// The processor's limit: fused multiply-adds on registers alone.
#include <chrono>
#ifdef __AVX512F__
constexpr int L = 16;
#else
constexpr int L = 8;
#endif
typedef float Vec __attribute__((vector_size(4 * L)));

// GFLOP/s of `threads` threads over `rounds` rounds of 24 independent multiply-adds.
extern "C" double fma_rate(int threads, long rounds) {
  auto start = std::chrono::steady_clock::now();
  float kept = 0;
#pragma omp parallel num_threads(threads) reduction(+ : kept)
  {
    Vec sum[24], x = Vec{} + .999f, y = Vec{} + 1e-3f;
    for (int i = 0; i < 24; i++) sum[i] = Vec{} + float(i);
    for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 24
      for (int i = 0; i < 24; i++) sum[i] = sum[i] * x + y;   // unrolled: all sums stay in registers
    }
    for (int i = 0; i < 24; i++) kept += sum[i][0];
  }
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return kept == 0 ? 0 : 2e-9 * L * 24 * rounds * threads / seconds;
}
