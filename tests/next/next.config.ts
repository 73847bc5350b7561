import type { NextConfig } from "next";

const config: NextConfig = {
  // Else Next.js looks for a lock file further up to find out where the project begins.
  turbopack: { root: import.meta.dirname },
  outputFileTracingRoot: import.meta.dirname,
};

export default config;
