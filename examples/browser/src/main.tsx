// Connects the page to a field and to the bus of one gateway.
import { bus } from "@aether-bus/client";
import { BusProvider, FieldProvider } from "@aether-bus/client/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Board } from "./board";
import { Header } from "./header";
import "./style.css";

const gateway: string = import.meta.env.VITE_GATEWAY;
const shop = bus(`${gateway}/ws`);

const root = document.getElementById("root");
if (!root) throw new Error("the page has no #root");
createRoot(root).render(
  <StrictMode>
    <FieldProvider url={`${gateway}/field/board/ws`}>
      <BusProvider bus={shop}>
        <Header />
        <Board shop={shop} />
      </BusProvider>
    </FieldProvider>
  </StrictMode>,
);
