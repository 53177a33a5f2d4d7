// Rates and latencies from the server's counts, which only grow.

// Moments that charts show, and over how many of them a percentile is taken.
export const MOMENTS = 60;
const WINDOW = 10;

const total = (numbers) => numbers.reduce((sum, number) => sum + number, 0);

// The time in ms below which a share of the counted requests were answered; NaN without any.
export function percentile(bounds, buckets, share) {
  const wanted = total(buckets) * share;
  if (!wanted) return NaN;
  let below = 0;
  for (let i = 0; i < buckets.length; i++) {
    if (below + buckets[i] >= wanted && buckets[i]) {
      const from = i ? bounds[i - 1] : 0;
      const to = i < bounds.length ? bounds[i] : from;
      return 1000 * (from + ((to - from) * (wanted - below)) / buckets[i]);
    }
    below += buckets[i];
  }
  return NaN;
}

// What one model has answered, a moment after the other.
export class History {
  constructor() {
    this.moments = [];
    this.rates = [];
    this.p50 = [];
    this.p99 = [];
  }

  // Takes the counts of all versions of the model at a time in ms.
  add(ms, bounds, models) {
    const buckets = bounds.map(() => 0).concat(0);
    let answered = 0;
    let failed = 0;
    for (const model of models) {
      for (const [status, count] of Object.entries(model.statuses ?? {})) {
        answered += count;
        if (status >= "500") failed += count;
      }
      (model.buckets ?? []).forEach((count, i) => (buckets[i] += count));
    }
    const last = this.moments[this.moments.length - 1];
    if (last && ms <= last.ms) return;
    if (last && answered < last.answered) this.moments = []; // the server started anew
    this.moments.push({ ms, answered, failed, buckets });
    this.moments = this.moments.slice(-MOMENTS - WINDOW);
    this.measure(bounds);
  }

  measure(bounds) {
    const count = this.moments.length;
    if (count < 2) return;
    const now = this.moments[count - 1];
    const before = this.moments[count - 2];
    const start = this.moments[Math.max(0, count - 1 - WINDOW)];
    const recent = now.buckets.map((number, i) => number - start.buckets[i]);
    const push = (list, value) => list.push(value) > MOMENTS && list.shift();
    push(this.rates, (1000 * (now.answered - before.answered)) / (now.ms - before.ms));
    push(this.p50, percentile(bounds, recent, 0.5));
    push(this.p99, percentile(bounds, recent, 0.99));
    this.recentRate = (1000 * (now.answered - start.answered)) / (now.ms - start.ms);
    this.recentFailures = now.failed - start.failed;
  }
}

export function shownRate(rate) {
  if (rate === undefined) return "–";
  return `${rate >= 10 ? Math.round(rate) : Math.round(rate * 10) / 10} / s`;
}

// A time in ms.
export function shownMs(ms) {
  if (ms === undefined || Number.isNaN(ms)) return "–";
  if (ms <= 0.1) return "≤ 0.1 ms";
  return ms < 1000 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
