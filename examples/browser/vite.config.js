import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The gateway has to know the origin of the page, so the port is always this one.
export default defineConfig({ plugins: [react()], server: { port: 5173, strictPort: true } });
