// One training step of a chain of linear layers and convolutions: the products of the room `compiled`.
//
// Feature maps are N×H×W×C with a frame of zeros as wide as the next convolution needs. Weights stand with the outputs
// side by side, as [kernel height, kernel width, channel, output], and the last index is padded to a multiple of L
// floats, so that no loop has a tail. Sums are cut and taken in an order that does not depend on the number of threads:
// it does not change a bit.
//
// The caches of two cores may lie far apart (on processors with several L3 caches several times as far at one time as at
// another), so what is much stays where it is: the weights of a linear layer, and the feature maps of a convolution with
// few weights, are cut into halves, and each of two threads has its own.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>
#include <omp.h>

#ifdef __AVX512F__
constexpr int L = 16, ROWS = 8, COLS = 3;   // floats in a register; rows and registers of a tile of the result
#else
constexpr int L = 8, ROWS = 4, COLS = 3;
#endif
typedef float Vec __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(8 * L)));
typedef int32_t Ints __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef uint8_t Bytes __attribute__((vector_size(L), aligned(1), may_alias));

// Memory that begins where a cache line does: a load across two lines takes twice as long.
template<class T> struct Aligned {
  typedef T value_type;
  Aligned() {}
  template<class U> Aligned(const Aligned<U>&) {}
  T* allocate(size_t n) { return (T*)::operator new(n * sizeof(T), std::align_val_t(64)); }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};
typedef std::vector<float, Aligned<float>> Floats;

static inline Vec load(const float* p) { return *(const Vec*)p; }
static inline void store(float* p, Vec v) { *(Vec*)p = v; }

// A sum over k. Three nested loops: sizes, and how far A and B move on with each, the innermost last. Or a table: where
// A and B are for each of n[0] values of k.
struct Sum { long n[3], a[3], b[3]; const long *at = nullptr, *bt = nullptr; };
enum Then { SET, BIAS_RELU, BIAS, ADD };   // what becomes of a tile of sums

constexpr long SHORT = 128;   // terms that are summed up before their sum is added to the others: short sums round less

// C[m, :] = Σ A[m, k] B[k, :] for M rows of C and N registers; rows[m] and C + m·ldc are their beginnings.
template<int M, int N> static void tile(const float* const* rows, long offset, const float* B, const Sum& s,
                                        float* C, long ldc, Then then, const float* bias, float alpha) {
  Vec acc[M][N];
  auto clear = [&] { for (int m = 0; m < M; m++) for (int n = 0; n < N; n++) acc[m][n] = Vec{}; };
  auto add = [&](const float* b, long a) {
    Vec v[N];
    for (int n = 0; n < N; n++) v[n] = load(b + n * L);
    for (int m = 0; m < M; m++) { Vec x = rows[m][a] - Vec{}; for (int n = 0; n < N; n++) acc[m][n] += x * v[n]; }
  };
  auto add_next = [&](const float*& b, long& a, long count) {
    for (long k = 0; k < count; k++, b += s.b[2], a += s.a[2]) {
      for (int n = 0; n < N; n++) __builtin_prefetch(b + 16 * s.b[2] + n * L);
      add(b, a);
    }
  };
  auto put = [&](const Vec (&sums)[M][N]) {
    for (int m = 0; m < M; m++) for (int n = 0; n < N; n++) {
      float* c = C + m * ldc + n * L;
      Vec v = sums[m][n];
      if (then == ADD) v = load(c) + alpha * v;
      else if (bias) v += load(bias + n * L);
      if (then == BIAS_RELU) v = v < 0 ? Vec{} : v;   // what is not a number stays so
      store(c, v);
    }
  };
  if (then == ADD) for (int m = 0; m < M; m++) for (int n = 0; n < N; n++) __builtin_prefetch(C + m * ldc + (N + n) * L, 1);
  clear();
  if (!s.at && s.n[0] * s.n[1] == 1 && s.n[2] <= SHORT) {   // one short sum: all in registers
    add_next(B, offset, s.n[2]);
    return put(acc);
  }
  Vec total[M][N] = {};
  auto close = [&] {   // a short sum is complete
    for (int m = 0; m < M; m++) for (int n = 0; n < N; n++) total[m][n] += acc[m][n];
    clear();
  };
  if (s.at) for (long k = 0; k < s.n[0]; close()) for (long end = std::min(k + SHORT, s.n[0]); k < end; k++) add(B + s.bt[k], s.at[k]);
  else {
    long terms = 0;
    for (long i = 0; i < s.n[0]; i++) for (long j = 0; j < s.n[1]; j++) {
      const float* b = B + i * s.b[0] + j * s.b[1];
      long a = offset + i * s.a[0] + j * s.a[1];
      for (long left = s.n[2], count; left; left -= count) {
        add_next(b, a, count = std::min(SHORT - terms, left));
        if ((terms += count) == SHORT) { close(); terms = 0; }
      }
    }
    close();
  }
  put(total);
}

template<int M> static void strip(const float* const* rows, long offset, const float* B, const Sum& s,
                                  float* C, long ldc, int n, Then then, const float* bias, float alpha) {
  if (n == 1) tile<M, 1>(rows, offset, B, s, C, ldc, then, bias, alpha);
  else if (n == 2) tile<M, 2>(rows, offset, B, s, C, ldc, then, bias, alpha);
  else tile<M, 3>(rows, offset, B, s, C, ldc, then, bias, alpha);
}

// The same for any number of rows up to ROWS and registers up to COLS.
static void block(int m, const float* const* rows, long offset, const float* B, const Sum& s, float* C, long ldc, int n,
                  Then then, const float* bias = nullptr, float alpha = 1) {
  switch (m) {
    case 1: return strip<1>(rows, offset, B, s, C, ldc, n, then, bias, alpha);
    case 2: return strip<2>(rows, offset, B, s, C, ldc, n, then, bias, alpha);
    case 3: return strip<3>(rows, offset, B, s, C, ldc, n, then, bias, alpha);
    case 4: return strip<4>(rows, offset, B, s, C, ldc, n, then, bias, alpha);
#ifdef __AVX512F__
    case 5: return strip<5>(rows, offset, B, s, C, ldc, n, then, bias, alpha);
    case 6: return strip<6>(rows, offset, B, s, C, ldc, n, then, bias, alpha);
    case 7: return strip<7>(rows, offset, B, s, C, ldc, n, then, bias, alpha);
    case 8: return strip<8>(rows, offset, B, s, C, ldc, n, then, bias, alpha);
#endif
  }
}

// Halves of groups of 2·W floats of two registers: the first halves of both, or the second ones.
template<int W, int SECOND> static inline Vec halves(Vec x, Vec y) {
  Ints mask;
  for (int i = 0; i < L; i++) {
    int k = i % (L / 2);   // the k-th float that is taken from x, or from y
    mask[i] = i / (L / 2) * L + k / W * 2 * W + k % W + SECOND * W;
  }
  return __builtin_shuffle(x, y, mask);
}

// The sums of L registers, in order, in one.
template<int W> static inline Vec fold_sums(Vec* v) {
  for (int i = 0; i < W; i++) v[i] = halves<W, 0>(v[2 * i], v[2 * i + 1]) + halves<W, 1>(v[2 * i], v[2 * i + 1]);
  return fold_sums<W / 2>(v);
}
template<> inline Vec fold_sums<0>(Vec* v) { return v[0]; }

constexpr int ACROSS = L / 4;   // dots makes 4×ACROSS sums at a time

// C[m, n] = Σ A[m, k] B[n, k] for 4 rows of A and ACROSS rows of B, where both lie along k, a multiple of L.
static void dots(const float* A, long lda, const float* B, long ldb, long k, float* C, long ldc) {
  Vec acc[4 * ACROSS];
  for (int i = 0; i < L; i++) acc[i] = Vec{};
  for (long i = 0; i < k; i += L) {
    Vec a[4];
    for (int m = 0; m < 4; m++) a[m] = load(A + m * lda + i);
    for (int n = 0; n < ACROSS; n++) {
      Vec b = load(B + n * ldb + i);
      for (int m = 0; m < 4; m++) acc[m * ACROSS + n] += a[m] * b;
    }
  }
  float sums[L];
  store(sums, fold_sums<L / 2>(acc));
  for (int m = 0; m < 4; m++) std::memcpy(C + m * ldc, sums + m * ACROSS, 4 * ACROSS);
}

// Turn a square of L×L floats around its diagonal.
template<int D> static inline void turn(Vec* v) {
  Ints low, high;
  for (int i = 0; i < L; i++) low[i] = i & D ? L + i - D : i, high[i] = i & D ? L + i : i + D;
  for (int i = 0; i < L; i++) if (!(i & D)) {
    Vec x = __builtin_shuffle(v[i], v[i + D], low), y = __builtin_shuffle(v[i], v[i + D], high);
    v[i] = x, v[i + D] = y;
  }
  turn<D / 2>(v);
}
template<> inline void turn<0>(Vec*) {}

struct Stage {   // as the room `compiled` fills it in
  int32_t conv, relu, pool;                       // a convolution? ReLU after it? its max-pooling's size, 1: none
  int32_t channels, height, width;                // of what is given; a linear layer has height and width 1
  int32_t outputs, kernel_h, kernel_w, pad_h, pad_w;
  float *weight, *bias, *weight_grad, *bias_grad; // weights [kernel_h, kernel_w, channels, padded outputs]; bias may be null
};

static long padded(long n) { return (n + L - 1) / L * L; }

struct Layer : Stage {
  long in_pitch, out_pitch, in_w, made_h, made_w, gives_h, gives_w, corner;   // pitch: floats from one pixel to the next
  long in_size, made_size, gives_size, back_h, back_w, back_size;     // floats of an image; back: gradients in a frame
  Floats in, back, flipped;   // what is given, in its frame; a piece's gradients in theirs; weights to go back
  Floats given_grad;          // gradient of what is given, without a frame
  Floats pooled_grad;         // of what is passed on, where the next layer wants it as a row of features
  Floats second;              // sums of a second half: of the inputs of a linear layer, of a convolution's images
  std::vector<uint8_t, Aligned<uint8_t>> where;             // which of a window was the largest; NONE: ReLU let nothing through
  std::vector<long> at, back_at;          // where the pixels of a unit begin in `in`, and those of a piece in `back`
  std::vector<long> sum_at, sum_back_at;  // where the pixels that a piece's product makes begin in `in` and in `back`

  explicit Layer(const Stage& s, bool first) : Stage(s) {
    in_pitch = first && conv ? channels : padded(channels);
    out_pitch = padded(outputs);
    in_w = width + 2 * pad_w;
    made_h = height + 2 * pad_h - kernel_h + 1, made_w = in_w - kernel_w + 1;
    gives_h = made_h / pool, gives_w = made_w / pool;
    in_size = (height + 2 * pad_h) * in_w * in_pitch;
    made_size = made_h * made_w * out_pitch, gives_size = gives_h * gives_w * out_pitch;
    back_h = height + kernel_h - 1, back_w = width + kernel_w - 1, back_size = back_h * back_w * out_pitch;
    corner = ((kernel_h - 1 - pad_h) * back_w + kernel_w - 1 - pad_w) * out_pitch;
  }
};

constexpr uint8_t NONE = 255;
constexpr long MANY = 128;           // images from which on a batch's features are more to move than the weights
constexpr long CACHE = 400 * 1024;   // bytes that a piece of work should keep to

struct Net {
  std::vector<Layer> layers;
  Floats logits, logits_grad;
  std::vector<Floats> scratch;   // one for each thread
  long room = 0;                             // images that the buffers hold
  int threads = 1;
  long images;
  float rate;
  bool fold;   // move the weights here, or leave their gradients to the caller?
};

static long weights_of(const Layer& l) { return (long)l.kernel_h * l.kernel_w * l.channels * l.out_pitch; }

// Has a convolution so few weights that it is worth summing up the gradients of each half of the images apart?
static bool halved(const Layer& l) { return l.conv && 4 * weights_of(l) <= CACHE / 4; }

static long piece_of(const Net& net, const Layer& l) {
  long fit = std::max(1L, (halved(l) ? 2 : 1) * CACHE / (4 * (l.in_size + l.back_size)));   // a half is one thread's
  return std::min(net.images, halved(l) ? (fit + 1) / 2 * 2 : fit);
}

// How many rows to take next of those that are left, so that no tile is much smaller than the others.
static int next_rows(long left) { long tiles = (left + ROWS - 1) / ROWS; return (left + tiles - 1) / tiles; }

static long share(long n, int thread, int threads) { return n * thread / threads; }

// The rows of a linear layer's weights that the first `part` of `parts` have, in whole tiles.
static long rows_until(const Layer& l, long part, long parts) {
  return std::min<long>(l.channels, share((l.channels + ROWS - 1) / ROWS, part, parts) * ROWS);
}

// ---- forward

// Images of a unit of work on a convolution: enough to use a weight often, few enough for the cache and for all threads.
static long unit(const Net& net, long pixels) {
  long want = std::max(1L, 128 / pixels), units = (net.images + want - 1) / want;
  units = (units + net.threads - 1) / net.threads * net.threads;
  return std::max(1L, (net.images + units - 1) / units);
}

static void fill_offsets(std::vector<long>& at, long count, long h, long w, long size, long row, long pitch) {
  if ((long)at.size() == count * h * w) return;
  at.resize(count * h * w);
  long* p = at.data();
  for (long i = 0; i < count; i++) for (long y = 0; y < h; y++) for (long x = 0; x < w; x++)
    *p++ = i * size + y * row + x * pitch;
}

// Rows of C, one for each offset: C[r, :] = Σ A[at[r] + k] B[k, :].
static void rows_times(const float* A, const long* at, long rows, const float* B, const Sum& s, float* C, long pitch,
                       Then then, const float* bias) {
  for (long n = 0; n < pitch; n += COLS * L) {
    int cols = std::min<long>(COLS, (pitch - n) / L);
    for (long r = 0, m; r < rows; r += m) {
      const float* begin[ROWS];
      m = next_rows(rows - r);
      for (int i = 0; i < m; i++) begin[i] = A + at[r + i];
      block(m, begin, 0, B + n, s, C + r * pitch + n, pitch, cols, then, bias ? bias + n : nullptr);
    }
  }
}

// Max-pooling of one image, then bias and ReLU; `out` is the frame of the next convolution, or a row of features.
static void pool_image(const Layer& l, const float* made, uint8_t* where, float* out, long row, long pitch, bool flat) {
  for (long y = 0; y < l.gives_h; y++) for (long x = 0; x < l.gives_w; x++) for (long c = 0; c < l.out_pitch; c += L) {
    const float* p = made + (y * l.pool * l.made_w + x * l.pool) * l.out_pitch + c;
    Vec best = load(p);
    Ints which = Ints{};
    for (int j = 1; j < l.pool * l.pool; j++) {
      Vec v = load(p + (j / l.pool * l.made_w + j % l.pool) * l.out_pitch);
      Ints more = (v > best) | (v != v);
      best = more ? v : best;
      which = more ? Ints{} + j : which;
    }
    if (l.bias) best += load(l.bias + c);
    if (l.relu) { which = best <= 0 ? Ints{} + NONE : which; best = best < 0 ? Vec{} : best; }
    *(Bytes*)(where + (y * l.gives_w + x) * l.out_pitch + c) = __builtin_convertvector(which, Bytes);
    if (!flat) store(out + y * row + x * pitch + c, best);
    else for (int i = 0; i < L && c + i < l.outputs; i++) out[(c + i) * l.gives_h * l.gives_w + y * l.gives_w + x] = best[i];
  }
}

static void convolve(Net& net, long index, int thread) {
  Layer &l = net.layers[index], &next = net.layers[index + 1];
  long pixels = l.made_h * l.made_w, step = unit(net, pixels), units = (net.images + step - 1) / step;
  bool merge = l.in_pitch == l.channels, flat = !next.conv;
  Sum s = merge ? Sum{{1, l.kernel_h, (long)l.kernel_w * l.channels}, {0, l.in_w * l.in_pitch, 1}, {0, (long)l.kernel_w * l.channels * l.out_pitch, l.out_pitch}}
                : Sum{{l.kernel_h, l.kernel_w, l.channels}, {l.in_w * l.in_pitch, l.in_pitch, 1},
                      {(long)l.kernel_w * l.channels * l.out_pitch, (long)l.channels * l.out_pitch, l.out_pitch}};
  Floats& made = net.scratch[thread];
  for (long u = share(units, thread, net.threads); u < share(units, thread + 1, net.threads); u++) {
    long first = u * step, count = std::min(step, net.images - first);
    if ((long)made.size() < count * l.made_size) made.resize(count * l.made_size);
    rows_times(l.in.data() + first * l.in_size, l.at.data(), count * pixels, l.weight, s, made.data(), l.out_pitch, SET, nullptr);
    for (long i = first; i < first + count; i++) {
      long inside = flat ? 0 : (next.pad_h * next.in_w + next.pad_w) * next.in_pitch;
      pool_image(l, made.data() + (i - first) * l.made_size, l.where.data() + i * l.gives_size,
                 next.in.data() + i * next.in_size + inside, next.in_w * next.in_pitch, next.in_pitch, flat);
    }
  }
}

// A batch of few images goes through the two halves of a linear layer's inputs apart, and their sums are added.

static void multiply(Net& net, long index, int thread) {
  Layer& l = net.layers[index];
  bool last = index + 1 == (long)net.layers.size();
  float* out = last ? net.logits.data() : net.layers[index + 1].in.data();
  long groups = (l.out_pitch / L + COLS - 1) / COLS, halves = net.images < MANY ? 2 : 1, units = halves * groups;
  for (long u = share(units, thread, net.threads); u < share(units, thread + 1, net.threads); u++) {
    long half = u / groups, n = u % groups * COLS * L;
    long from = rows_until(l, half, halves), to = rows_until(l, half + 1, halves);
    Sum s = {{1, 1, to - from}, {0, 0, 1}, {0, 0, l.out_pitch}};
    float* sums = half ? l.second.data() : out;
    const float* bias = half || !l.bias ? nullptr : l.bias + n;
    Then then = half ? SET : l.relu && halves == 1 ? BIAS_RELU : BIAS;
    int cols = std::min<long>(COLS, (l.out_pitch - n) / L);
    for (long r = 0, m; r < net.images; r += m) {
      const float* begin[ROWS];
      m = next_rows(net.images - r);
      for (int i = 0; i < m; i++) begin[i] = l.in.data() + (r + i) * l.in_pitch + from;
      block(m, begin, 0, l.weight + from * l.out_pitch + n, s, sums + r * l.out_pitch + n, l.out_pitch, cols, then, bias);
    }
  }
  if (halves == 1) return;
#pragma omp barrier
  long size = net.images * l.out_pitch / L;
  for (long v = share(size, thread, net.threads) * L; v < share(size, thread + 1, net.threads) * L; v += L) {
    Vec sum = load(out + v) + load(l.second.data() + v);
    if (l.relu) sum = sum < 0 ? Vec{} : sum;
    store(out + v, sum);
  }
}

// Mean loss and right answers of the logits, added up with those of the batches before, and the gradient of the loss.
static void judge(Net& net, const int64_t* labels, const int64_t* batch, float* loss, int64_t* correct) {
  const Layer& l = net.layers.back();
  double sum = 0;
  int64_t right = 0;
  for (long i = 0; i < net.images; i++) {
    const float* z = net.logits.data() + i * l.out_pitch;
    float* g = net.logits_grad.data() + i * l.out_pitch;
    long best = 0, label = labels[batch[i]];
    for (long c = 1; c < l.outputs; c++) if (z[c] > z[best] || z[c] != z[c]) best = c;
    float total = 0;
    for (long c = 0; c < l.outputs; c++) total += g[c] = std::exp(z[c] - z[best]);
    sum += std::log(total) - (z[label] - z[best]);
    for (long c = 0; c < l.outputs; c++) g[c] = (g[c] / total - (c == label)) / net.images;
    right += best == label;
  }
  float mean = sum / net.images;
  volatile float all = mean * net.images;   // rounded before it is added, as the general step does
  *loss += all, *correct += right;
}

// ---- backward

static void add_vec(float* p, float alpha, Vec v) { store(p, load(p) + alpha * v); }

// Move the bias by the sum of the gradients of all pixels. It is a sum of many numbers that nearly cancel, so it is taken
// in double precision and rounded once.
static void move_bias(Net& net, Layer& l, const float* g, const uint8_t* where, int thread) {
  if (!l.bias) return;
  long vecs = l.out_pitch / L, rows = net.images * l.gives_size / l.out_pitch;
  for (long v = share(vecs, thread, net.threads); v < share(vecs, thread + 1, net.threads); v++) {
    Doubles all = Doubles{};
    for (long r = 0; r < rows; r++) {
      long at = r * l.out_pitch + v * L;
      Vec x = load(g + at);
      if (where) x = __builtin_convertvector(*(const Bytes*)(where + at), Ints) == Ints{} + NONE ? Vec{} : x;
      all += __builtin_convertvector(x, Doubles);
    }
    float* target = net.fold ? l.bias : l.bias_grad;
    for (int i = 0; i < L; i++) target[v * L + i] = net.fold ? l.bias[v * L + i] - net.rate * all[i] : all[i];
  }
}

// The weights mirrored, with the channels side by side: [kernel_h, kernel_w, outputs, padded channels].
static void flip(Layer& l, int thread, int threads) {
  long taps = (long)l.kernel_h * l.kernel_w, across = l.in_pitch / L, jobs = taps * across;
  for (long job = share(jobs, thread, threads); job < share(jobs, thread + 1, threads); job++) {
    long t = job / across, c = job % across * L;
    for (long o = 0; o < l.outputs; o += L) {
      Vec v[L];
      for (int i = 0; i < L; i++) v[i] = c + i < l.channels ? load(l.weight + (t * l.channels + c + i) * l.out_pitch + o) : Vec{};
      turn<L / 2>(v);
      float* to = l.flipped.data() + ((taps - 1 - t) * l.outputs + o) * l.in_pitch + c;
      for (long i = 0; i < std::min<long>(L, l.outputs - o); i++) store(to + i * l.in_pitch, v[i]);
    }
  }
}

static void multiply_back(Net& net, long index, int thread) {
  Layer& l = net.layers[index];
  bool last = index + 1 == (long)net.layers.size(), first = index == 0;
  float* g = last ? net.logits_grad.data() : net.layers[index + 1].given_grad.data();
  long from = rows_until(l, thread, net.threads), to = rows_until(l, thread + 1, net.threads);
  if (l.relu) {   // all threads need all of it
    const float* made = net.layers[index + 1].in.data();
    long size = net.images * l.out_pitch / L;
    for (long v = share(size, thread, net.threads); v < share(size, thread + 1, net.threads); v++) {
      Vec x = load(g + v * L);
      store(g + v * L, load(made + v * L) <= 0 ? Vec{} : x);
    }
#pragma omp barrier
  }
  long piece = std::max(4L, CACHE / 2 / (l.out_pitch * 4) / 4 * 4);
  bool turned = !first && (l.out_pitch <= 4 * L || net.images >= MANY);   // worth turning the weights around first?
  bool together = net.images <= piece && !turned;   // then each row of weights is used both ways while it is in the cache
  Sum s = {{1, 1, net.images}, {0, 0, l.in_pitch}, {0, 0, l.out_pitch}};
  float* target = net.fold ? l.weight : l.weight_grad;
  auto move = [&](long i, long n) {
    const float* begin[ROWS];
    int m = std::min<long>(ROWS, to - i), cols = std::min<long>(COLS, (l.out_pitch - n) / L);
    for (int r = 0; r < m; r++) begin[r] = l.in.data() + i + r;
    block(m, begin, 0, g + n, s, target + i * l.out_pitch + n, l.out_pitch, cols, net.fold ? ADD : SET, nullptr, -net.rate);
  };
  auto send_back = [&](long i, long b, long end) {   // ROWS rows of weights, a piece of images
    long pitch = l.out_pitch, stop = std::min(i + ROWS, to);
    long ahead = ROWS * pitch / ((end - b + 3) / 4) + L;   // the next rows come while these are worked on
    for (long k = b; k < end; k += 4) for (long r = i; r < stop; r += ACROSS) {
      if (r == i) for (long j = 0; j < ahead; j += L) __builtin_prefetch(l.weight + (i + ROWS) * pitch + (k - b) / 4 * ahead + j);
      const float *A = g + k * pitch, *B = l.weight + r * pitch;
      float *C = l.given_grad.data() + k * l.in_pitch + r, few[4 * ACROSS];
      long across = std::min<long>(ACROSS, stop - r);
      if (across == ACROSS) { dots(A, pitch, B, pitch, pitch, C, l.in_pitch); continue; }
      for (long y = 0; y < across; y++) {   // the edge of the matrix: sums that are left over are thrown away
        dots(A, pitch, B + y * pitch, 0, pitch, few, ACROSS);
        for (long x = 0; x < 4; x++) C[x * l.in_pitch + y] = few[x * ACROSS];
      }
    }
  };
  if (turned) {
    flip(l, thread, net.threads);
#pragma omp barrier
    Sum back = {{1, 1, l.outputs}, {0, 0, 1}, {0, 0, l.in_pitch}};
    long begin = share(net.images, thread, net.threads), end = share(net.images, thread + 1, net.threads);
    rows_times(g, l.back_at.data() + begin, end - begin, l.flipped.data(), back, l.given_grad.data() + begin * l.in_pitch,
               l.in_pitch, SET, nullptr);
  }
  if (together) for (long i = from; i < to; i += ROWS) {
    if (!first) send_back(i, 0, net.images);
    for (long n = 0; n < l.out_pitch; n += COLS * L) move(i, n);
  } else {
    if (!first && !turned) for (long b = 0; b < net.images; b += piece)
      for (long i = from; i < to; i += ROWS) send_back(i, b, std::min(b + piece, net.images));
    for (long n = 0; n < l.out_pitch; n += COLS * L) for (long i = from; i < to; i += ROWS) move(i, n);
  }
  move_bias(net, l, g, nullptr, thread);
}

// Gradients of one image before pooling, in the frame that going back needs.
static void expand(const Layer& l, const float* g, const uint8_t* where, float* back) {
  for (long y = 0; y < l.gives_h; y++) for (long x = 0; x < l.gives_w; x++) for (long c = 0; c < l.out_pitch; c += L) {
    long at = (y * l.gives_w + x) * l.out_pitch + c;
    Ints which = __builtin_convertvector(*(const Bytes*)(where + at), Ints);
    Vec v = load(g + at);
    float* p = back + l.corner + (y * l.pool * l.back_w + x * l.pool) * l.out_pitch + c;
    for (int j = 0; j < l.pool * l.pool; j++)
      store(p + (j / l.pool * l.back_w + j % l.pool) * l.out_pitch, which == Ints{} + j ? v : Vec{});
  }
}

// Gradients of one image from a row of features to pixels.
static void unflatten(const Layer& l, const float* row, float* g) {
  long pixels = l.gives_h * l.gives_w;
  for (long p = 0; p < pixels; p++) for (long c = 0; c < l.outputs; c++) g[p * l.out_pitch + c] = row[c * pixels + p];
}

static void convolve_back(Net& net, long index, int thread) {
  Layer &l = net.layers[index], &next = net.layers[index + 1];
  bool flat = !next.conv;
  long weights = (long)l.kernel_h * l.kernel_w * l.channels, pixels = (long)l.height * l.width;
  long piece = piece_of(net, l);
  long made = l.made_h * l.made_w, halves = halved(l) ? 2 : 1;
  bool straight = halves == 1 && piece >= net.images && net.fold;   // move the weights by the only sums there are
  const float* g = flat ? l.pooled_grad.data() : next.given_grad.data();
  if (flat) {
    for (long i = share(net.images, thread, net.threads); i < share(net.images, thread + 1, net.threads); i++)
      unflatten(l, next.given_grad.data() + i * next.in_pitch, l.pooled_grad.data() + i * l.gives_size);
#pragma omp barrier
  }
  if (index) flip(l, thread, net.threads);
  for (long first = 0; first < net.images; first += piece) {
    long count = std::min(piece, net.images - first);
    for (long i = share(count, thread, net.threads); i < share(count, thread + 1, net.threads); i++)
      expand(l, g + (first + i) * l.gives_size, l.where.data() + (first + i) * l.gives_size, l.back.data() + i * l.back_size);
#pragma omp barrier
    if (index) {
      Sum s = {{1, l.kernel_h, (long)l.kernel_w * l.out_pitch}, {0, l.back_w * l.out_pitch, 1},
               {0, (long)l.kernel_w * l.outputs * l.in_pitch, l.in_pitch}};
      if (l.out_pitch != l.outputs) s = {{l.kernel_h, l.kernel_w, l.outputs}, {l.back_w * l.out_pitch, l.out_pitch, 1},
                                         {(long)l.kernel_w * l.outputs * l.in_pitch, (long)l.outputs * l.in_pitch, l.in_pitch}};
      long rows = count * pixels, from = share(rows, thread, net.threads), to = share(rows, thread + 1, net.threads);
      rows_times(l.back.data(), l.back_at.data() + from, to - from, l.flipped.data(), s,
                 l.given_grad.data() + (first * pixels + from) * l.in_pitch, l.in_pitch, SET, nullptr);
    }
    long tiles = (weights + ROWS - 1) / ROWS, groups = (l.out_pitch / L + COLS - 1) / COLS, jobs = tiles * groups;
    for (long u = share(halves * jobs, thread, net.threads); u < share(halves * jobs, thread + 1, net.threads); u++) {
      long half = u / jobs, from = share(count, half, halves) * made, to = share(count, half + 1, halves) * made;
      long k = u % jobs / groups * ROWS, n = u % groups * COLS * L;
      Sum s = {{to - from}, {}, {}, l.sum_at.data() + from, l.sum_back_at.data() + from};
      const float* begin[ROWS];
      int m = std::min<long>(ROWS, weights - k), cols = std::min<long>(COLS, (l.out_pitch - n) / L);
      for (int r = 0; r < m; r++) {
        long tap = (k + r) / l.channels;
        begin[r] = l.in.data() + first * l.in_size + (tap / l.kernel_w * l.in_w + tap % l.kernel_w) * l.in_pitch + (k + r) % l.channels;
      }
      float* target = (half ? l.second.data() : straight ? l.weight : l.weight_grad) + k * l.out_pitch + n;
      block(m, begin, 0, l.back.data() + l.corner + n, s, target, l.out_pitch, cols, straight || first ? ADD : SET, nullptr,
            straight ? -net.rate : 1.f);
    }
#pragma omp barrier
  }
  move_bias(net, l, g, l.where.data(), thread);
  if (straight || (halves == 1 && !net.fold)) return;
  long vecs = weights * l.out_pitch / L;
  for (long v = share(vecs, thread, net.threads) * L; v < share(vecs, thread + 1, net.threads) * L; v += L) {
    Vec sum = load(l.weight_grad + v);
    if (halves > 1) sum += load(l.second.data() + v);
    if (net.fold) add_vec(l.weight + v, -net.rate, sum); else store(l.weight_grad + v, sum);
  }
}

// ---- the whole

// Room for `net.images` images; what is a frame or padding is zero, and stays so.
static void make_room(Net& net) {
  for (auto& l : net.layers) if (l.conv) {
    if ((long)l.back.size() < piece_of(net, l) * l.back_size) l.back.assign(piece_of(net, l) * l.back_size, 0);
    fill_offsets(l.at, unit(net, l.made_h * l.made_w), l.made_h, l.made_w, l.in_size, l.in_w * l.in_pitch, l.in_pitch);
    fill_offsets(l.sum_at, piece_of(net, l), l.made_h, l.made_w, l.in_size, l.in_w * l.in_pitch, l.in_pitch);
    fill_offsets(l.sum_back_at, piece_of(net, l), l.made_h, l.made_w, l.back_size, l.back_w * l.out_pitch, l.out_pitch);
    fill_offsets(l.back_at, piece_of(net, l), l.height, l.width, l.back_size, l.back_w * l.out_pitch, l.out_pitch);
  }
  net.scratch.resize(net.threads);
  if (net.images <= net.room) return;
  net.room = net.images;
  for (auto& l : net.layers) {
    l.in.assign(net.room * l.in_size, 0);
    if (&l != &net.layers[0]) l.given_grad.assign((net.room + 3) * l.height * l.width * l.in_pitch, 0);   // `dots` takes 4 rows
    l.flipped.assign((long)l.kernel_h * l.kernel_w * l.outputs * l.in_pitch, 0);
    if (!l.conv) l.second.assign(std::min(net.room, MANY) * l.out_pitch, 0);
    if (!l.conv) fill_offsets(l.back_at, net.room, 1, 1, l.out_pitch, 0, 0);
    if (!l.conv) continue;
    if (halved(l)) l.second.assign(weights_of(l), 0);
    l.where.assign(net.room * l.gives_size, NONE);
    l.pooled_grad.assign(net.room * l.gives_size, 0);
  }
  net.logits.assign(net.room * net.layers.back().out_pitch, 0);
  net.logits_grad.assign((net.room + 3) * net.layers.back().out_pitch, 0);
}

template<class T> static void take_images(Net& net, const T* x, const int64_t* batch, int thread) {
  Layer& l = net.layers[0];
  long pixels = (long)l.height * l.width, size = pixels * l.channels;
  auto value = [](T v) { return sizeof(T) == 1 ? v / 255.f : v; };
  for (long i = share(net.images, thread, net.threads); i < share(net.images, thread + 1, net.threads); i++) {
    const T* from = x + batch[i] * size;
    float* to = l.in.data() + i * l.in_size;
    if (!l.conv) for (long k = 0; k < size; k++) to[k] = value(from[k]);
    else for (long c = 0; c < l.channels; c++) for (long y = 0; y < l.height; y++) for (long k = 0; k < l.width; k++)
      to[((y + l.pad_h) * l.in_w + l.pad_w + k) * l.in_pitch + c] = value(from[c * pixels + y * l.width + k]);
  }
}

static void forward(Net& net, const void* x, int bytes, const int64_t* batch, int thread) {
  if (bytes) take_images(net, (const uint8_t*)x, batch, thread); else take_images(net, (const float*)x, batch, thread);
  for (size_t i = 0; i < net.layers.size(); i++) {
#pragma omp barrier
    if (net.layers[i].conv) convolve(net, i, thread); else multiply(net, i, thread);
  }
#pragma omp barrier
}

extern "C" {
int lanes() { return L; }

void* make_net(const Stage* stages, int count) {
  Net* net = new Net;
  for (int i = 0; i < count; i++) net->layers.emplace_back(stages[i], i == 0);
  return net;
}

void free_net(void* net) { delete (Net*)net; }

// A step for each of `sizes`, on as many images, bytes or floats, whose places among all `images` follow each other in
// `order`; with `fold` the weights move, without it their gradients are left. Each batch's mean loss times its size is added
// to `loss`, its right answers to `correct`. Gives 0; or does nothing and gives 1 if a label is no class, 2 if a place is none.
int train_steps(void* handle, const void* x, int bytes, const int64_t* labels, int64_t images, const int64_t* order,
                const int64_t* sizes, int64_t steps, float rate, int fold, int threads, float* loss, int64_t* correct) {
  Net& net = *(Net*)handle;
  int64_t count = 0;
  for (int64_t i = 0; i < steps; i++) count += sizes[i];
  for (int64_t i = 0; i < count; i++) {
    if (order[i] < 0 || order[i] >= images) return 2;
    if (labels[order[i]] < 0 || labels[order[i]] >= net.layers.back().outputs) return 1;
  }
  net.rate = rate, net.fold = fold;
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    int thread = omp_get_thread_num();
    for (int64_t step = 0, first = 0; step < steps; first += sizes[step++]) {
      const int64_t* batch = order + first;
      if (thread == 0) {
        net.threads = omp_get_num_threads();   // there may be fewer than were asked for
        net.images = sizes[step];
        make_room(net);
      }
#pragma omp barrier
      forward(net, x, bytes, batch, thread);
      if (thread == 0) judge(net, labels, batch, loss, correct);
#pragma omp barrier
      for (long i = (long)net.layers.size() - 1; i >= 0; i--) {
        if (net.layers[i].conv) convolve_back(net, i, thread); else multiply_back(net, i, thread);
#pragma omp barrier
      }
    }
  }
  return 0;
}
}
