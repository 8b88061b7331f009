// How long something takes or has taken.

export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  for (const [name, length, lesser, part] of [["d", 86400, "h", 3600], ["h", 3600, "min", 60], ["min", 60, "s", 1]]) {
    if (whole < length) continue;
    const rest = Math.floor((whole % length) / part);
    return `${Math.floor(whole / length)} ${name}${rest ? ` ${rest} ${lesser}` : ""}`;
  }
}

/** The rate, or for how long there was none. A rate is never shown for what does not move. */
export function pace(shown, times) {
  if (times.silent) return shown.speed ? `no message from the kernel for ${duration(times.silent)}` : "";
  if (shown.since !== undefined && shown.still) {
    const age = times.now - shown.since;
    if (age >= shown.patience) return `${shown.still} for ${duration(age)}`;
  }
  return shown.speed ?? "";
}
