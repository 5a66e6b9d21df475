/**
 * The audio thread's half of the capture: cuts its input, mixed to mono, into s16 chunks.
 *
 * Each chunk is posted as {buffer, timeS, level}: `buffer` has `headerBytes` free bytes and then the PCM (the
 * page stamps a header there and sends the same buffer), `timeS` is the context time of its first sample,
 * `level` its RMS in [0, 1]. An input that is not connected, or has ended, is silence: the audio clock runs
 * on. The message 'stop' posts the last, shorter chunk and then {stopped: true}.
 */

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions: { chunkSamples, headerBytes } }) {
    super();
    this.chunkSamples = chunkSamples;
    this.headerBytes = headerBytes;
    this.stopped = false;
    this.begin();
    this.port.onmessage = () => {
      this.flush();
      this.stopped = true;
      this.port.postMessage({ stopped: true });
    };
  }

  begin() {
    this.pcm = new Int16Array(this.headerBytes / 2 + this.chunkSamples);
    this.filled = 0;
    this.energy = 0;
  }

  flush() {
    if (this.filled === 0) return;
    const end = this.headerBytes + 2 * this.filled;
    const buffer = this.filled === this.chunkSamples ? this.pcm.buffer : this.pcm.buffer.slice(0, end);
    const level = Math.sqrt(this.energy / this.filled);
    this.port.postMessage({ buffer, timeS: this.startFrame / sampleRate, level }, [buffer]);
    this.begin();
  }

  process([channels], [output]) {
    if (this.stopped) return false;
    const share = 1 / (channels.length || 1);
    const length = channels[0]?.length ?? output[0].length;
    for (let i = 0; i < length; i++) {
      let sample = 0;
      for (let c = 0; c < channels.length; c++) sample += share * channels[c][i];
      if (this.filled === 0) this.startFrame = currentFrame + i;
      this.pcm[this.headerBytes / 2 + this.filled++] = Math.max(-32768, Math.min(32767, 32768 * sample));
      this.energy += sample * sample;
      if (this.filled === this.chunkSamples) this.flush();
    }
    return true;
  }
}

registerProcessor('capture', Capture);
