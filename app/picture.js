// The picture of a track with a line that follows the player. A click on the picture moves the player, Space starts and
// stops it. The page is drawn anew for each track: whatever had the keys (a button, a field) gives them up then.
export default function ({ parentElement, data }) {
  const frame = parentElement.querySelector(".frame");
  const image = frame.querySelector("img");
  const line = frame.querySelector(".line");
  const player = () => document.querySelector("audio");
  if (image.src !== data.png) document.activeElement?.blur();
  image.src = data.png;
  image.alt = data.alt;
  const follow = () => {
    const sound = player();
    if (!sound) return;
    const share = Math.min(1, sound.currentTime / data.duration_s);
    line.style.left = `${100 * (data.left + share * (data.right - data.left))}%`;
    line.style.display = sound.currentTime > 0 ? "block" : "none";
  };
  image.onclick = (event) => {
    const sound = player();
    const share = (event.offsetX / image.clientWidth - data.left) / (data.right - data.left);
    if (sound && share >= 0 && share <= 1) sound.currentTime = share * data.duration_s;
    follow();
  };
  const onKey = (event) => {
    const sound = player();
    if (event.key !== " " || event.target !== document.body || !sound) return;
    event.preventDefault();
    if (sound.paused) sound.play();
    else sound.pause();
  };
  document.addEventListener("keydown", onKey);
  const timer = setInterval(follow, 100);
  return () => {
    clearInterval(timer);
    document.removeEventListener("keydown", onKey);
  };
}
